"""The device batcher: which tiles a device runs next, in which batches, and what the end of a batch means."""
