"""Reads a `model.toml`, and refuses what no runner could follow, with one line that says what to change."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from penstock.errors import ConfigurationError
from penstock.models.declared.definition import Definition
from penstock.models.declared.placement import FIXED
from penstock.models.declared.tensor import ORDERS

FILE = "model.toml"

MOST_BYTES = 1024 * 1024
"""The largest `model.toml`, and the largest file of labels."""


def read_definition(folder: Path) -> Definition:
    """The definition in a folder. Raises ConfigurationError in one line."""
    try:
        return checked(msgspec.convert(tomllib.loads(text_of(folder / FILE)), Definition))
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise ConfigurationError(f"{folder / FILE}: {_one_line(error)}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{folder / FILE}: {error}") from error


def text_of(path: Path) -> str:
    """The text of a file beside, or of, a `model.toml`. Raises ConfigurationError where it is too large or no text."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigurationError(f"{path.name} is larger than {MOST_BYTES} bytes")
        return content.decode()
    except OSError as error:
        raise ConfigurationError(f"{path.name} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path.name} is not UTF-8") from error


def checked(definition: Definition) -> Definition:
    """Returns the definition. Raises ConfigurationError where its members do not fit together."""
    rules = TENSOR_RULES if definition.kind == "tensors" else IMAGE_RULES
    for rule in rules:
        for fault in rule(definition):
            raise ConfigurationError(fault)
    return definition


def _channels(definition: Definition) -> Iterator[str]:
    section = definition.input
    has = len(ORDERS[section.colour])
    if section.channels not in ((1, 3) if section.colour == "grey" else (has,)):
        yield f"input.channels: {section.channels} with the colour {section.colour}"
    for name, values in (("mean", section.mean), ("std", section.std)):
        if len(values) not in (0, 1, section.channels):
            yield f"input.{name}: {len(values)} numbers for {section.channels} channels"
        if not all(map(math.isfinite, values)):
            yield f"input.{name}: has a value that is no number"
    if 0 in section.std:
        yield "input.std: has a zero"


def _bytes(definition: Definition) -> Iterator[str]:
    section = definition.input
    if section.dtype == "uint8" and (section.range != "0-255" or section.mean or section.std):
        yield 'input.range: an input of uint8 takes the levels as they are: range = "0-255" without mean and std'


def _sizes(definition: Definition) -> Iterator[str]:
    section = definition.input
    if section.resize in (*FIXED, "height") and section.size is None:
        yield f"input.size: width and height are needed to {section.resize}"
    if section.resize in ("pad", "multiple") and section.multiple_of is None:
        yield f"input.multiple_of: is needed to resize by {section.resize}"
    if section.size and section.size[0] * section.size[1] > MOST_PIXELS:
        yield f"input.size: has more than {MOST_PIXELS} pixels"


MOST_PIXELS = 8192 * 8192


def _tiles(definition: Definition) -> Iterator[str]:
    tiles, section = definition.tiles, definition.input
    if tiles.allowed == "never":
        return
    if definition.kind != "image-to-image":
        yield f"tiles.allowed: only image-to-image works in tiles, not {definition.kind}"
    if section.colour not in ("RGB", "BGR"):
        yield f"tiles.allowed: not with the colour {section.colour}"
    if section.resize not in ("none", "pad"):
        yield f"tiles.allowed: tiles are not resized, and input.resize is {section.resize}"
    if definition.output.range == "min-max":
        yield "output.range: min-max of each tile would leave seams"
    if tiles.ladder and max(tiles.ladder) <= 2 * tiles.overlap_px:
        yield "tiles.ladder: no side is longer than two overlaps"


def _outputs(definition: Definition) -> Iterator[str]:
    output = definition.output
    if output.boxes == "separate" and definition.kind == "image-to-boxes" and not (output.name and output.scores):
        yield "output.name, output.scores: separate boxes need the names of both outputs"
    if definition.kind == "image-to-embedding" and output.format == "npz":
        yield "output.format: an embedding is json or npy"


def _half(definition: Definition) -> Iterator[str]:
    if bool(definition.half.file) != bool(definition.half.sha256):
        yield "half: needs both file and sha256"


def _ports(definition: Definition) -> Iterator[str]:
    names = [tensor.name for tensor in definition.tensors]
    if not names:
        yield "tensors: a model of this kind needs its inputs, each as [[tensors]] with name, dtype and shape"
    if len(set(names)) < len(names):
        yield "tensors: two have one name"


Rule = Callable[[Definition], Iterator[str]]

IMAGE_RULES: tuple[Rule, ...] = (_channels, _bytes, _sizes, _tiles, _outputs, _half)
TENSOR_RULES: tuple[Rule, ...] = (_ports, _half)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:500] or type(error).__name__
