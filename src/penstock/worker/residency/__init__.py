"""Which models are loaded in a worker: on demand, within a budget of memory, the least recently used given up first."""
