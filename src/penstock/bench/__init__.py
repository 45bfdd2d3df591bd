"""`penstock bench`: puts load on a server, and compares it with a loop that has no server."""
