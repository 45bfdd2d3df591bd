"""Everything on one machine, as children of one process: Redis, the API and the workers."""
