"""Models without code: an ONNX file and the `model.toml` that says what its tensors mean.

Importing this package imports no runner: a worker whose directory has no such model needs none.
"""

FILE = "model.toml"
"""The name of the file that makes a folder a version of a model."""
