"""Readers of untrusted bytes, run on made-up inputs: see `python -m tools.fuzz --help`."""
