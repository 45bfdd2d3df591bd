"""What a card would give for the images with which Penstock checks it: computed on the CPU, from the same files."""

import struct
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray

from penstock.models.onnxruntime.session import ModelFile


def write_answers(path: Path, questions: Iterable[tuple[ModelFile, NDArray[Any]]]) -> None:
    """Write a file for SI_ANSWERS with the outputs of model files for batches; libraries/cudart_copies.c reads it."""
    path.write_bytes(b"".join(record for file, batch in questions for record in _records(file, batch)))


def _records(file: ModelFile, batch: NDArray[Any]) -> Iterator[bytes]:
    contents = (resources.files("penstock.weights") / file.file).read_bytes()
    convolutions = sum(node.op_type == "Conv" for node in onnx.load_from_string(contents).graph.node)
    session = onnxruntime.InferenceSession(contents, providers=["CPUExecutionProvider"])
    for output in session.run(None, {session.get_inputs()[0].name: batch}):
        record = struct.pack("=3q", batch.nbytes, convolutions, output.nbytes) + batch.tobytes() + output.tobytes()
        yield record + bytes(-len(record) % 8)
