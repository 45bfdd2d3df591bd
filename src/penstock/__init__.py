"""Penstock: a self-hosted server for long-running GPU inference jobs."""

__version__ = "0.1.0"
