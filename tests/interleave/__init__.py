"""Races between calls: callers that share something meet in every order of their calls."""
