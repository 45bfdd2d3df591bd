"""What happens between two calls: callers that share something, in every order of their calls."""
