"""Models without code: an ONNX file and the `model.toml` that says what its tensors mean."""
