"""Whole servers in one thread: every choice comes from a seed, and the time from nobody's clock. See `run`."""
