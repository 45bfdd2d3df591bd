"""The shapes of requests and of answers."""
