"""Removes each guard from a copy of the source, after which its test must fail."""
