"""The `[check]` of a declared model: an example that is run when it is loaded, and shown in the catalogue."""

from __future__ import annotations

import math
import os
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from penstock.core.device import CPU_SIDES, CPU_TILE_PX, Device
from penstock.core.model import Example
from penstock.core.request import OutputOptions
from penstock.errors import ConfigurationError, DeviceOutOfMemory, PenstockError
from penstock.lazy_import import lazy_import
from penstock.models.base import BaseModelRunner, Product
from penstock.models.declared.definition import Definition
from penstock.models.declared.files import bounded
from penstock.models.declared.kinds.packing import unpacked
from penstock.models.members import InputFile, InputMembers
from penstock.pixels.decoding import decode

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

IMAGES = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}

MOST_BYTES = 64 * 1024 * 1024
"""The largest example, and the largest answer."""
MOST_INLINE = 2048
"""The largest example that the catalogue shows whole: every API reads all of it."""

ON_CPU = Device(
    name="cpu", kind="cpu", threads=os.cpu_count() or 1, sides=CPU_SIDES, any_side_to=CPU_TILE_PX, batches=(1,)
)
"""The CPU as one stream of all its cores, for one answer at a time."""


class WrongAnswer(Exception):
    """What differs, and where."""


def run(runner: Any) -> None:
    """Run the check of a runner that is loaded. Raises ConfigurationError where its answer is off; what the device
    raises."""
    definition: Definition = runner.definition
    if not (definition.check.input and definition.check.answer):
        return
    stored = bounded(runner.folder / definition.check.answer, MOST_BYTES)
    try:
        product = answered(runner, _source(definition, runner.folder), definition.check.params)
        compare(product, stored, definition.check.answer, definition.check.tolerance)
    except DeviceOutOfMemory:
        raise
    except (WrongAnswer, PenstockError, msgspec.MsgspecError) as error:
        raise ConfigurationError(f"{runner.name}: [check] fails on {runner.device_name}: {error}") from error


def answered(runner: BaseModelRunner[Any], source: Any, params: Mapping[str, Any] | None = None) -> Product:
    """What a runner that is loaded answers to an input: bytes of an image, or members. Raises what the model raises."""
    given = msgspec.convert(dict(params or {}), runner.params)
    work = runner.prepare(source, given)
    for index in range(work.count):
        (output,) = runner.infer(work.tile(index)[None], work)
        work.accept(index, output)
    return runner.postprocess(work, given, OutputOptions())


def stored_form(product: Product) -> tuple[str, bytes]:
    """The ending and the contents of the file in which an answer is stored: that of the product, else its data."""
    if product.file is not None:
        return product.extension, bytes(product.file)
    return "json", msgspec.json.format(msgspec.json.encode(product.data), indent=1)


def compare(product: Product, stored: bytes, name: str, tolerance: float) -> None:
    """Compare an answer with the stored one, whose kind the ending of `name` says. Raises WrongAnswer."""
    if name.endswith(".json"):
        _compare_values(_without_guesses(product.data or {}), _without_guesses(msgspec.json.decode(stored)), tolerance)
    elif product.file is None:
        raise WrongAnswer("there is no file, and the stored answer is one")
    elif Path(name).suffix in IMAGES:
        _compare_images(product.file, stored, tolerance)
    else:
        _compare_arrays(product.file, stored, tolerance)


def example(definition: Definition, folder: Path) -> Example | None:
    """The check as the catalogue shows it; None where there is none, or it cannot be read now."""
    name = definition.check.answer
    if not name:
        return None
    try:
        data = msgspec.json.decode(bounded(folder / name, MOST_BYTES)) if name.endswith(".json") else None
    except (ConfigurationError, msgspec.DecodeError):
        return None
    files = () if name.endswith(".json") else (name,)
    member = "file" if definition.kind == "tensors" else "image_url"
    try:
        shown = {member: _url_of(folder / definition.check.input)}
    except ConfigurationError:
        return None
    return Example(input=shown, params=dict(definition.check.params), data=_shortened(data), files=files)


def _url_of(file: Path) -> str:
    """The file itself where it is small; else a URL that nobody takes for a real one."""
    content = bounded(file, MOST_BYTES)
    if len(content) > MOST_INLINE:
        return f"https://YOUR-SERVER/{file.name}"
    return f"data:{InputFile(content).content_type};base64,{b64encode(content).decode()}"


def _source(definition: Definition, folder: Path) -> Any:
    content = bounded(folder / definition.check.input, MOST_BYTES)
    return InputMembers({"file": InputFile(content)}) if definition.kind == "tensors" else content


def _without_guesses(data: Any) -> Any:
    return {name: value for name, value in data.items() if name != "guessed"} if isinstance(data, dict) else data


def _compare_values(got: Any, wanted: Any, tolerance: float, where: str = "") -> None:
    if isinstance(wanted, dict) and isinstance(got, dict) and set(got) == set(wanted):
        for name, value in wanted.items():
            _compare_values(got[name], value, tolerance, f"{where}.{name}")
    elif isinstance(wanted, list) and isinstance(got, list) and len(got) == len(wanted):
        for place, value in enumerate(wanted):
            _compare_values(got[place], value, tolerance, f"{where}[{place}]")
    elif _is_number(wanted) and _is_number(got):
        if not math.isclose(got, wanted, rel_tol=tolerance, abs_tol=tolerance):
            raise WrongAnswer(f"{where.lstrip('.')} is {got:g}, not {wanted:g}")
    elif got != wanted:
        raise WrongAnswer(f"{where.lstrip('.') or 'the answer'} is {str(got)[:60]!r}, not {str(wanted)[:60]!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _compare_images(got: bytes, wanted: bytes, tolerance: float) -> None:
    ours, theirs = (decode(file) for file in (got, wanted))
    if ours.rgb.shape != theirs.rgb.shape or (ours.alpha is None) != (theirs.alpha is None):
        raise WrongAnswer("the image has another size, or other channels")
    pairs = [(ours.rgb, theirs.rgb), *([(ours.alpha, theirs.alpha)] if ours.alpha is not None else [])]
    off = max(float(np.abs(a.astype(np.int16) - b).mean()) / 255 for a, b in pairs)  # type: ignore[operator]
    if off > tolerance:
        raise WrongAnswer(f"the pixels of the image are {off:.4f} away on average, where {tolerance:g} is allowed")


def _compare_arrays(got: bytes, wanted: bytes, tolerance: float) -> None:
    ours, theirs = (unpacked(bytes(file), "answer", max_bytes=4 * MOST_BYTES) for file in (got, wanted))
    if {name: array.shape for name, array in ours.items()} != {name: array.shape for name, array in theirs.items()}:
        raise WrongAnswer("the arrays have other names or shapes")
    for name, array in ours.items():
        if not np.allclose(array, theirs[name], rtol=tolerance, atol=tolerance):
            raise WrongAnswer(f"the array {name} is too far from the stored one")


def _shortened(data: Any) -> Any:
    """An answer short enough for a catalogue: of long lists the first members."""
    if isinstance(data, dict):
        return {name: _shortened(value) for name, value in data.items()}
    return [_shortened(value) for value in data[:SHOWN]] if isinstance(data, list) else data


SHOWN = 8
