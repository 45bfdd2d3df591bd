"""`penstock doctor`: checks whether this machine can run Penstock, and says what to do if not."""
