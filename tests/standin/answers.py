"""What a card would give for the images with which Penstock checks it: computed on the CPU, from the same files."""

import hashlib
import os
import struct
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from penstock.core.device import GPU_SHAPES, Device
from penstock.models.onnxruntime.golden import batch_of
from penstock.models.onnxruntime.precision import compared_at_load
from penstock.models.onnxruntime.session import ModelFile, manifest
from penstock.models.scoring import SIDE

DEVICE = Device(name="cuda:0", kind="cuda", threads=1, rectangles=GPU_SHAPES, batches=(1,), precision="auto")


def asked_at_load() -> Iterator[tuple[ModelFile, NDArray[Any]]]:
    """What a worker runs on a GPU before it is ready, and looks at: each batch with the file that runs it."""
    for file in opened_at_start():
        scores = file.name == "image-scoring-v1"
        yield from compared_at_load(file, DEVICE, ((SIDE, SIDE),) if scores else ())
        if scores:  # the batches of its warm-up too, so that a worker that serves it becomes ready
            yield from ((file, np.repeat(batch_of("scene", SIDE, SIDE), size, axis=0)) for size in (2, 4, 8))


def opened_at_start() -> list[ModelFile]:
    """All but `best`, whose weights are in a file of their own, and which a task has to ask for."""
    return [file for file in manifest("cuda").values() if not file.beside]


def answers_in(directory: Path) -> Path:
    """The file for SI_ANSWERS with all that is looked at when a worker starts, which is computed once and kept here.

    libraries/cudart_copies.c reads it.
    """
    # The file in fp16 gives what that in fp32 gives.
    questions = {(_convolutions(file), batch.tobytes()): (file, batch) for file, batch in asked_at_load()}
    files = sorted(file.sha256 for file in opened_at_start())
    path = directory / f"answers-{hashlib.sha256(repr([files, sorted(questions)]).encode()).hexdigest()[:16]}"
    if not path.exists():
        fresh = path.with_suffix(f".{os.getpid()}")
        fresh.write_bytes(b"".join(record for question in questions.values() for record in _records(*question)))
        fresh.replace(path)
    return path


def _records(file: ModelFile, batch: NDArray[Any]) -> Iterator[bytes]:
    session = _on_cpu(file)
    for output in session.run(None, {session.get_inputs()[0].name: batch}):
        sizes = struct.pack("=3q", batch.nbytes, _convolutions(file), output.nbytes)
        yield sizes + batch.tobytes() + output.tobytes() + bytes(-(batch.nbytes + output.nbytes) % 8)


@cache
def _on_cpu(file: ModelFile) -> Any:
    return onnxruntime.InferenceSession(_contents(file), providers=["CPUExecutionProvider"])


@cache
def _convolutions(file: ModelFile) -> int:
    return sum(node.op_type == "Conv" for node in onnx.load_from_string(_contents(file)).graph.node)


def _contents(file: ModelFile) -> bytes:
    return (resources.files("penstock.weights") / file.file).read_bytes()
