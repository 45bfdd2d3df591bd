"""Models that run in ONNX Runtime."""
