"""`penstock bench`: load on a server, and what it did with it, beside a loop that has no server."""
