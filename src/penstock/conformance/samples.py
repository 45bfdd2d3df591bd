"""Inputs to try a model with: what the caller has, and images of odd sizes for a model that takes one image."""

from collections.abc import Iterator, Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from penstock.core.model import SOLE_IMAGE, Member, sole_image_of
from penstock.core.request import OutputOptions
from penstock.errors import ConfigurationError
from penstock.models.base import BaseModelRunner
from penstock.models.members import InputFile, InputMembers
from penstock.pixels.encoding import encode
from penstock.pixels.headers import ImageBounds
from penstock.pixels.picture import Picture

PHOTO = resources.files("penstock.models") / "photo.jpg"
"""The photo that comes with Penstock: what a model with one image is tried with where there is no other."""

ODD_SIZES = ((1, 1), (1, 64), (64, 1), (17, 31), (333, 257))
"""Width and height: the least, thin ones, odd ones, and sides of no power of two."""


class SampleInput(Struct, frozen=True, eq=False):
    """One input of a model: its members by name, and what to call it."""

    name: str
    members: Mapping[str, Any]

    def source_for(self, runner: type[BaseModelRunner[Any]] | BaseModelRunner[Any]) -> Any:
        """What `prepare` gets: the bytes of the image, or all members of a model that declares some."""
        members = declared(runner)
        return InputMembers(self.members, sole_image_of(members)) if runner.inputs else self.members[SOLE_IMAGE]


def declared(runner: type[BaseModelRunner[Any]] | BaseModelRunner[Any]) -> dict[str, Member]:
    """The members of the input of a registered model, also of one that declares none."""
    members: Any = runner.inputs or {SOLE_IMAGE: Member()}
    return dict(members)


def sample_of(runner: type[BaseModelRunner[Any]], given: Mapping[str, Any], bounds: ImageBounds) -> SampleInput:
    """A sample of these members, where a Path is read as a file. Without any, a model with one image gets the photo
    that comes with Penstock.

    Raises ConfigurationError when a member is missing, unknown, or cannot be read.
    """
    takes = declared(runner)
    image = sole_image_of(takes)
    values = dict(given)
    if not values and image is not None:
        values = {image: PHOTO}
    for name in values.keys() - takes.keys():
        raise ConfigurationError(f"{runner.name} has no member {name!r}; it takes {', '.join(takes)}")
    for name, member in takes.items():
        if member.required and name not in values:
            example = "'…'" if member.kind == "json" else "@path"
            raise ConfigurationError(f"{runner.name} needs its member {name}: give --input {name}={example}")
    read = partial(_read, bounds=bounds)
    members = {name: read(value) if isinstance(value, Path) else value for name, value in values.items()}
    return SampleInput("the sample", members)


def variants_of(sample: SampleInput, runner: type[BaseModelRunner[Any]]) -> Iterator[SampleInput]:
    """The sample with other images in place of its only one: of ODD_SIZES, grey, and with transparency."""
    name = sole_image_of(declared(runner))
    for width, height in ODD_SIZES if name in sample.members else ():
        yield _with_image(sample, str(name), f"{width}×{height} px", _noise(height, width))
    if name in sample.members:
        yield _with_image(sample, str(name), "a grey image", Picture(_noise(48, 64).rgb, grey=True))
        alpha = _noise(48, 64).rgb[..., 0]
        yield _with_image(sample, str(name), "a transparent image", Picture(_noise(48, 64).rgb, alpha))


def _with_image(sample: SampleInput, member: str, name: str, picture: Picture) -> SampleInput:
    image = InputFile(encode(picture, OutputOptions()))
    return SampleInput(name, {**sample.members, member: image})


def _noise(height: int, width: int) -> Picture:
    values = np.random.default_rng(height * 1000 + width).integers(0, 256, (height, width, 3), np.uint8)
    return Picture(values)


def _read(path: Path, *, bounds: ImageBounds) -> InputFile:
    from penstock.client.media_types import media_type_of

    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    return InputFile(data, content_type=media_type_of(path.name), name=path.name, bounds=bounds)
