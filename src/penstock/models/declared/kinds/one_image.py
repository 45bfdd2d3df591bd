"""What all kinds have in common whose input is one image: it is placed in the input tensor, and runs as one tile."""

from __future__ import annotations

from importlib import resources
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec.structs import replace

from penstock.core.device import Device
from penstock.core.sizes import SizeRule, Sizes
from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.models.base import Work
from penstock.models.declared.definition import Definition
from penstock.models.declared.kinds.contract import DeclaredKind
from penstock.models.declared.network import FREE, NONE, Arrays
from penstock.models.declared.placement import FIXED, ImagePlacement, place
from penstock.models.declared.tensor import TensorForm, tensor_of
from penstock.models.onnxruntime.network import Inputs
from penstock.models.onnxruntime.ports import Port, Ports
from penstock.pixels.decoding import decode
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.picture import Picture
from penstock.settings import LimitSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

RESIZED_BYTES = 8
"""Bytes for each pixel that is resized: 4 in Pillow, and at most 4 in the array."""

WRITTEN_BYTES = 6
"""Bytes for each pixel that is written: 4 in Pillow, and at most 2 in the file (a PNG of noise)."""


PHOTO = "photo.jpg"


class Seen(NamedTuple):
    """What was seen of an image: where it is in the tensor, and its pixels where the kind needs them for the answer."""

    placement: ImagePlacement
    picture: Picture | None


class OneImage(DeclaredKind):
    """A kind whose input is one image."""

    keeps_picture = False
    """Whether the answer needs the pixels of the image."""
    on_white = True
    """Whether the network sees what is transparent on white; else it sees the colours beneath."""

    def __init__(self, definition: Definition, labels: tuple[str, ...], limits: LimitSettings) -> None:
        super().__init__(definition, labels, limits)
        self.section = definition.input
        self.form = TensorForm(definition.input)

    @property
    def sizes(self) -> Sizes:
        """What the device computes, where that is the same for every image."""
        size = self.section.size
        return Sizes(rule=SizeRule(kilopixels=_kilopixels(size) if size and self.section.resize in FIXED else None))

    def check_ports(self, ports: Ports) -> None:
        """Compare name, type and number of axes of the graph's input with the definition."""
        port = self._port(ports)
        if port.dtype != self.section.dtype:
            raise ConfigurationError(f"input.dtype: the graph takes {port.dtype}, model.toml says {self.section.dtype}")
        if len(port.shape) != len(self.section.layout):
            raise ConfigurationError(f"input.layout: {self.section.layout}, but the graph takes {list(port.shape)}")
        has = port.shape[self.section.layout.index("C")]
        if isinstance(has, int) and has != self.section.channels:
            raise ConfigurationError(f"input.channels: the graph takes {has}, model.toml says {self.section.channels}")
        self._check_size(*(port.shape[self.section.layout.index(axis)] for axis in "WH"))

    def _check_size(self, width: int | str | None, height: int | str | None) -> None:
        section, border = self.section, 2 * self.section.border_px
        fixed = (width, height) if isinstance(width, int) and isinstance(height, int) else None
        if section.size is None and section.resize in FIXED:
            if fixed is None:
                raise ConfigurationError("input.size is missing: the graph takes images of any size")
            self.section = replace(section, size=(fixed[0] - border, fixed[1] - border))
        elif fixed and section.size and section.resize in FIXED and fixed != tuple(s + border for s in section.size):
            raise ConfigurationError(f"input.size: the graph takes {width}x{height}, model.toml says {section.size}")

    def _port(self, ports: Ports) -> Port:
        named = [port for port in ports.inputs if port.name == self.section.name]
        if self.section.name and not named:
            raise ConfigurationError(f"input.name: the graph has no input {self.section.name!r}")
        if len(ports.inputs) > 1:
            others = ", ".join(port.name for port in ports.inputs)
            raise ConfigurationError(f"kind: {self.definition.kind} has one input, and the graph {others}")
        return (named or list(ports.inputs))[0]

    def memory_needed(self, source: bytes) -> int:
        """The pixels of the image, of what it is padded and resized to, and, as floats, those of its tensor."""
        header = probe(source, ImageBounds.of(self.limits))
        placed = self._place(header.width, header.height)
        steps = ((placed.source, placed.padded), (placed.padded, placed.resized))
        made = sum(prod(after) for before, after in steps if after != before)
        tensor = prod(placed.canvas) * self.section.channels * self.form.dtype.itemsize
        return header.decoding_bytes + made * RESIZED_BYTES + tensor

    def work(self, source: bytes, device: Device) -> Work:
        """One tile: the tensor of the image."""
        return self.one_tile(decode(source, ImageBounds.of(self.limits)))

    def one_tile(self, picture: Picture) -> Work:
        """The tensor of a decoded image as one tile."""
        height, width = picture.rgb.shape[:2]
        placed = self._place(width, height)
        opaque = picture if self.on_white or self.section.channels == 4 else Picture(picture.rgb, grey=picture.grey)
        tensor = tensor_of(opaque, placed, self.section, self.form)
        seen = Seen(placed, picture if self.keeps_picture else None)
        return Work([tensor], context=seen, device_size=_kilopixels(placed.canvas))

    def _place(self, width: int, height: int) -> ImagePlacement:
        return place(self.section, width, height, max_pixels=self.limits.max_image_megapixels * 1e6)

    def sample(self, device: Device) -> Work:
        """The photo that comes with Penstock."""
        return self.work((resources.files("penstock.models") / PHOTO).read_bytes(), device)

    def batch(self, ports: Ports) -> int:
        """What the first axis of the graph's input says."""
        if "N" not in self.section.layout:
            return NONE
        first = self._port(ports).shape[0]
        return first if isinstance(first, int) else FREE

    def feeds(self, tiles: NDArray[Any], work: Work) -> Inputs:
        """The tiles as they are."""
        return tiles


def _kilopixels(size: tuple[int, int]) -> int:
    return max(1, size[0] * size[1] // 1000)


def first_output(work: Work) -> NDArray[Any]:
    """The first output for the only tile, without axes of one at the front, down to the last axis."""
    outputs: Arrays = work.outputs[0]
    array = outputs[0]
    while array.ndim > 1 and array.shape[0] == 1:
        array = array[0]
    return array
