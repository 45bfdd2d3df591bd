"""The images that a run sends: those that were named, or a built-in mix."""

import base64
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from msgspec import Struct

from penstock.bench.plan import NOOP
from penstock.core.request import OutputOptions
from penstock.errors import ConfigurationError, PenstockError
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import encode
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.picture import Picture
from penstock.pixels.resampling import resize

SIZES = ((256, 192), (384, 256), (512, 384), (640, 480), (768, 512), (1024, 768))
"""Width and height of the built-in mix: 0.05 to 0.79 megapixels, 0.31 on average."""

SMALL = (64, 48)

ENLARGED = 2
"""The bundled photo has 225 x 150 px. Enlarged more it would be smooth, and cheaper to encode than photos are."""

SUFFIXES = (".jpeg", ".jpg", ".png", ".webp")


class Image(Struct, frozen=True, kw_only=True):
    """One input image of the load."""

    name: str
    data: bytes
    width: int
    height: int

    @property
    def megapixels(self) -> float:
        """Width × height / 10⁶."""
        return self.width * self.height / 1e6

    @property
    def uri(self) -> str:
        """The image as a data: URI."""
        return f"data:;base64,{base64.b64encode(self.data).decode()}"


def image_set(paths: Sequence[Path], model: str) -> list[Image]:
    """The files, and those in the directories, by name; with no path the built-in mix, or for a model that looks at
    nothing one image that is small enough to stay in the record of its task.

    Raises ConfigurationError when there is no image, or one that cannot be read.
    """
    if not paths:
        return [_jpeg(*SMALL)] if model == NOOP else [_jpeg(*size, corner=n) for n, size in enumerate(SIZES)]
    files = [file for path in paths for file in (_inside(path) if path.is_dir() else [path])]
    try:
        return [_image(str(file), file.read_bytes()) for file in files]
    except OSError as error:
        raise ConfigurationError(f"--images: cannot read {error.filename}: {error.strerror}") from error


def mirrored(columns: int, rows: int, *, corner: int = 0) -> Picture:
    """A picture as rich as a photo: the bundled one enlarged twice, from one of six corners of it, and mirrored at its
    edges as often as it takes to fill the size."""
    photo = decode(_bundled())
    height, width = (side * ENLARGED for side in photo.rgb.shape[:2])
    large = np.dstack([resize(photo.rgb[..., channel], width, height) for channel in range(3)])
    cut = large[30 * corner :, 45 * corner :]
    return Picture(np.pad(cut, ((0, rows), (0, columns), (0, 0)), mode="symmetric")[:rows, :columns].copy())


def _jpeg(columns: int, rows: int, *, corner: int = 0) -> Image:
    data = encode(mirrored(columns, rows, corner=corner), OutputOptions(format="jpeg"))
    return _image(f"{columns}x{rows}.jpg", data)


def _bundled() -> bytes:
    return (resources.files("penstock.models") / "photo.jpg").read_bytes()


def _inside(directory: Path) -> list[Path]:
    found = sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES)
    if not found:
        raise ConfigurationError(f"--images: no PNG, JPEG or WebP in {directory}")
    return found


def _image(name: str, data: bytes) -> Image:
    try:
        header = probe(data, ImageBounds())
    except PenstockError as error:
        raise ConfigurationError(f"--images: {name}: {error.detail}") from error
    return Image(name=name, data=data, width=header.width, height=header.height)
