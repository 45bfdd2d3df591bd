"""What an ONNX file says about itself, and what must be guessed: the only importer of the package `onnx`."""
