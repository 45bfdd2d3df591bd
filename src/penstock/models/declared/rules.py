"""Which members of a definition do not fit together, by kind."""

from collections.abc import Callable, Iterator

from penstock.core.device import CPU_TILE_PX
from penstock.models.declared.definition import Definition

MOST_PIXELS = 4096 * 4096
"""How many the largest input tensor has."""

Rule = Callable[[Definition], Iterator[str]]


def disagreements(definition: Definition) -> Iterator[str]:
    """A line for each fault that no single member shows."""
    for rule in TENSOR_RULES if definition.kind == "tensors" else IMAGE_RULES:
        yield from rule(definition)


def _bytes(definition: Definition) -> Iterator[str]:
    section = definition.input
    if section.dtype == "uint8" and (section.range != "0-255" or section.mean or section.std):
        yield 'input.range: an input of uint8 takes the levels as they are: range = "0-255" without mean and std'


def _sizes(definition: Definition) -> Iterator[str]:
    section = definition.input
    if section.resize == "height" and section.size is None:
        yield "input.size is missing: input.resize = height needs it"
    if section.resize == "multiple" and section.multiple_of is None:
        yield "input.multiple_of is missing: input.resize = multiple needs it"
    if section.size and section.size[0] * section.size[1] > MOST_PIXELS:
        yield f"input.size: has more than {MOST_PIXELS} pixels"


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
    if tiles.allowed == "supported" and not tiles.ladder and 2 * tiles.overlap_px >= CPU_TILE_PX:
        yield f"tiles.overlap_px: without tiles.ladder it is less than {CPU_TILE_PX // 2}, half the tile of a CPU"


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


IMAGE_RULES: tuple[Rule, ...] = (_bytes, _sizes, _tiles, _outputs, _half)
TENSOR_RULES: tuple[Rule, ...] = (_ports, _half)
