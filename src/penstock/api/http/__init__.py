"""What all routes share of HTTP."""
