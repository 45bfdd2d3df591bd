"""Tasks, batches, uploads and devices as values. Everything here is pure: it does no input or output."""
