"""The repository of models: `<name>/<version>/model.toml` with its files, in a directory or under `models/` in the
storage. Nothing here opens a model."""
