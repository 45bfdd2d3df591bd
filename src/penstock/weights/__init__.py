"""The models that ship with Penstock: .onnx files, and manifest.toml, which says where they came from."""
