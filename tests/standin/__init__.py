"""A GPU ring without a GPU: ONNX Runtime's own CUDA provider over stand-ins for the libraries of CUDA.

`python -m tests.standin prepare` makes what it needs in `.standin/`; nothing is built when tests are collected.
"""
