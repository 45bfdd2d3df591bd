"""Runs model files in ONNX Runtime."""
