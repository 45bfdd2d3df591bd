"""Metrics, logs and trace context of a process."""
