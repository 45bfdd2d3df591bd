"""What a card would give for the images with which Penstock checks it: computed on the CPU, from the same files."""

import os
import struct
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from importlib import resources
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.models.onnxruntime.precision import compared_at_load
from penstock.models.onnxruntime.session import ModelFile, manifest

SHAPE = (128, 128)
SCORED = (224, 224)
"""(height, width) of what the scorer takes."""


def answers_at_load(directory: Path) -> Path:
    """A file for SI_ANSWERS with the outputs of all that is compared when Penstock's models are loaded on a card whose
    smallest tiles are 128 px wide and high. It is made once for these model files."""
    questions = list({(file.file, batch.tobytes()): (file, batch) for file, batch in _questions()}.values())
    digest = sha256(b"".join(file.sha256.encode() + batch.tobytes() for file, batch in questions)).hexdigest()
    path = directory / f"answers-{digest[:16]}"
    if not path.exists():
        unfinished = path.with_suffix(f".{os.getpid()}")
        write_answers(unfinished, questions)
        unfinished.rename(path)
    return path


def _questions() -> Iterator[tuple[ModelFile, NDArray[Any]]]:
    card = Device(name="cuda:0", kind="cuda", threads=1, sides=SHAPE[:1], batches=(1,), precision="auto")
    for file in manifest("cuda").values():
        yield from compared_at_load(file, card, [SHAPE if file.scale > 1 else SCORED])


def write_answers(path: Path, questions: Iterable[tuple[ModelFile, NDArray[Any]]]) -> None:
    """Write a file for SI_ANSWERS with the outputs of model files for batches; libraries/cudart_copies.c reads it."""
    path.write_bytes(b"".join(record for file, batch in questions for record in _records(file, batch)))


def _records(file: ModelFile, batch: NDArray[Any]) -> Iterator[bytes]:
    session, convolutions = _opened(file)
    for output in session.run(None, {session.get_inputs()[0].name: batch}):
        record = struct.pack("=3q", batch.nbytes, convolutions, output.nbytes) + batch.tobytes() + output.tobytes()
        yield record + bytes(-len(record) % 8)


@cache
def _opened(file: ModelFile) -> tuple[Any, int]:
    contents = (resources.files("penstock.weights") / file.file).read_bytes()
    convolutions = sum(node.op_type == "Conv" for node in onnx.load_from_string(contents).graph.node)
    return onnxruntime.InferenceSession(contents, providers=["CPUExecutionProvider"]), convolutions
