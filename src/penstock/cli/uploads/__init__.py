"""`penstock uploads`."""
