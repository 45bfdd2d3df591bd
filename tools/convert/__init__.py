"""Rebuilds every shipped .onnx file, byte for byte, from weights published in package registries."""
