"""The worker: claims tasks, fetches their inputs, runs the models, stores the results."""
