"""Memory is set aside for what a decoder really takes."""

import io
import os

import pytest
from PIL import Image, ImageCms

from penstock.bench.images import mirrored
from penstock.models.scoring import ImageScoring
from penstock.pixels.decoding import UNBOUNDED
from penstock.pixels.headers import probe
from penstock.settings import LimitSettings
from tools.decode_memory import peak_bytes

pytestmark = pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="this system has no files in memory")

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
BESIDE_BYTES = 8 * 1024**2
"""What a decoder takes for the first image, however small."""


def saved(form: str, mode: str, **options: object) -> bytes:
    photo = Image.fromarray(mirrored(2000, 1500).rgb)
    out = io.BytesIO()
    (photo.convert("I").convert(mode) if mode == "I;16" else photo.convert(mode)).save(out, form, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}),
        ("JPEG", "RGB", {"icc_profile": PROFILE}),
        ("PNG", "RGBA", {}),
        ("PNG", "I;16", {}),
        ("WEBP", "RGB", {}),
        ("WEBP", "RGBA", {"icc_profile": PROFILE}),
    ],
)
def test_a_decoder_takes_no_more_than_is_set_aside(form: str, mode: str, options: dict[str, object]) -> None:
    data = saved(form, mode, **options)
    expected = probe(data, UNBOUNDED).decoding_bytes

    assert expected / 2 < peak_bytes(data) <= expected + BESIDE_BYTES


def test_the_format_decides_what_a_task_is_expected_to_take() -> None:
    needs = {form: _needed(saved(form, "RGB")) for form in ("JPEG", "PNG", "WEBP")}

    assert 15e6 < needs["JPEG"] < needs["PNG"] < needs["WEBP"]
    assert needs["WEBP"] >= 17 * 3_000_000


def _needed(data: bytes) -> int:
    runner = ImageScoring(LimitSettings())
    return runner.memory_needed(data, runner.params())
