"""Adds a foreign file as an operator would, and measures how far its answers are from the package's own."""

import io
import resource
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from penstock.cli.models.adding import Added, Adding, add_model
from penstock.errors import ConfigurationError
from penstock.models.base import Product
from penstock.models.declared import check
from penstock.models.declared.runner import declared_runner
from penstock.models.members import InputFile, InputMembers
from penstock.settings import LimitSettings
from tools.foreign.files import ForeignFile

ENOUGH = 1e-3


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """How one file did. `difference` is with what was said, `unsaid` without; infinite where answers differ in kind.
    `took_s` is from the command to its first answer, and `cpu_s` what was computed for that."""

    file: ForeignFile
    kind: str
    guessed: tuple[str, ...]
    difference: float
    unsaid: float
    took_s: float
    cpu_s: float
    answers: int
    problem: str = ""

    @property
    def right(self) -> bool:
        """Whether it answers as the package does, with what was said."""
        return self.difference <= ENOUGH

    @property
    def guessed_right(self) -> bool:
        """Whether it does so with nothing said: also where what was said makes no difference for this sample."""
        return not self.file.say and self.right

    @property
    def silently_wrong(self) -> bool:
        """Whether a member that has to be said is not among the guesses, or nothing is to be said and it is wrong."""
        said = {text.partition("=")[0] for text in self.file.say}
        normalisation = {"input.mean", "input.std"}
        silent = said - set(self.guessed) - OPTIONAL
        if "input.range" in self.guessed:
            silent -= normalisation
        return bool(silent) or (not self.file.say and not self.right)


OPTIONAL = frozenset({"output.labels", "input.short_side", "input.pad_value"})
"""Members that are absent rather than wrong until they are said: names of classes, and parts of how to resize."""


def compared(file: ForeignFile, path: Path, directory: Path) -> Outcome:
    """Add the file without and with what has to be said, and compare both answers with the reference."""
    sample = file.sample()
    expected = file.reference(str(path), sample)
    example = directory / ("sample.png" if isinstance(sample, bytes) else "sample.npz")
    example.write_bytes(sample if isinstance(sample, bytes) else _packed(sample))
    asked = Adding(file=path, name=file.key, example=example)
    before_s = _cpu_of_children()
    added = add_model(asked, directory / "models")
    cpu_s = _cpu_of_children() - before_s
    unsaid = _difference(file, added, sample, expected)
    told, difference = added, unsaid
    if file.say:
        told = add_model(msgspec.structs.replace(asked, said=file.say), directory / "models")
        difference = _difference(file, told, sample, expected)
    return Outcome(
        file=file,
        kind=added.draft.kind,
        guessed=tuple(found.path for found in added.draft.guessed),
        difference=difference,
        unsaid=unsaid,
        took_s=min(added.took_s, told.took_s),
        cpu_s=cpu_s,
        answers=len(expected),
        problem=added.draft.problem,
    )


def _cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _difference(file: ForeignFile, added: Added, sample: Any, expected: Any) -> float:
    runner = declared_runner(added.folder, name=added.name)(LimitSettings())
    runner.load_model(check.ON_CPU)
    try:
        product = check.answered(runner, _source(sample), dict(file.params) | _everything(added.draft.kind))
    finally:
        runner.unload()
    return DIFFERENCES[added.draft.kind](product, expected)


def _everything(kind: str) -> dict[str, Any]:
    return {"top_k": 4} if kind == "image-to-labels" else {"format": "npz"} if kind.endswith("tensors") else {}


def _source(sample: Any) -> Any:
    if isinstance(sample, bytes):
        return sample
    return InputMembers({"file": InputFile(_packed(sample))})


def _packed(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, allow_pickle=False, **arrays)
    return stream.getvalue()


def _of_labels(product: Product, expected: NDArray[Any]) -> float:
    """The largest difference of a probability."""
    found = {label["index"]: label["probability"] for label in (product.data or {})["labels"]}
    return max(abs(float(probability) - float(expected[index])) for index, probability in found.items())


def _of_boxes(product: Product, expected: list[tuple[float, ...]]) -> float:
    """The largest difference of a score, or of a side as a share of the image; infinite where their number differs."""
    data = product.data or {}
    found = [(*box["box"], box["score"], box["index"]) for box in data["boxes"]]
    if len(found) != len(expected):
        return float("inf")
    scale = max(data["width"], data["height"])
    pairs = zip(*(sorted(boxes, key=_place) for boxes in (found, expected)), strict=True)
    return max((_apart(a, b, scale) for a, b in pairs), default=0.0)


def _place(box: tuple[float, ...]) -> tuple[float, ...]:
    return (box[5], round(box[4], 2), *(round(side) for side in box[:4]))


def _apart(a: tuple[float, ...], b: tuple[float, ...], scale: int) -> float:
    sides = max(abs(x - y) for x, y in zip(a[:4], b[:4], strict=True)) / scale
    return max(sides, abs(a[4] - b[4]), float("inf") if a[5] != b[5] else 0.0)


def _of_image(product: Product, expected: NDArray[Any]) -> float:
    """The mean difference of a level as a share of 255, of what is left when the reference is rounded as ours is."""
    found = np.asarray(Image.open(io.BytesIO(product.file or b"")))
    wanted = np.rint(expected)
    if found.shape != wanted.shape:
        return float("inf")
    return float(np.abs(found.astype(np.float64) - wanted).mean() / 255)


def _of_arrays(product: Product, expected: Mapping[str, NDArray[Any]]) -> float:
    """The largest difference of a value as a share of the largest one of its array, or of 1."""
    found = dict(np.load(io.BytesIO(product.file or b""), allow_pickle=False))
    if found.keys() != expected.keys() or any(found[name].shape != expected[name].shape for name in found):
        return float("inf")
    return max(float(np.abs(found[n] - a).max()) / max(1.0, float(np.abs(a).max())) for n, a in expected.items())


DIFFERENCES: dict[str, Callable[[Product, Any], float]] = {
    "image-to-labels": _of_labels,
    "image-to-boxes": _of_boxes,
    "image-to-mask": _of_image,
    "image-to-image": _of_image,
    "image-to-tensors": _of_arrays,
    "tensors": _of_arrays,
}


def refused(file: ForeignFile, error: ConfigurationError) -> Outcome:
    """The outcome of a file that could not be added."""
    nothing = float("inf")
    return Outcome(
        file=file,
        kind="refused",
        guessed=(),
        difference=nothing,
        unsaid=nothing,
        took_s=0,
        cpu_s=0,
        answers=0,
        problem=str(error),
    )
