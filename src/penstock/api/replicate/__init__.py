"""The same tasks in the words of Replicate's API."""
