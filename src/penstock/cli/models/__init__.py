"""`penstock models`: each file has one command, or a few of a kind, and the table in `group` names them."""
