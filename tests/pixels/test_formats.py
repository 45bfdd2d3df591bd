"""Formats: what is taken, what of it is decoded, and what an error says of the rest."""

import io

import numpy as np
import pytest
from PIL import Image

from penstock.errors import ImageAnimated, UnsupportedImageFormat
from penstock.pixels.decoding import decode
from penstock.pixels.headers import ImageBounds, probe
from penstock.settings import LimitSettings

RAMP = np.linspace(0, 255, 64, dtype=np.uint8)[None, :].repeat(32, axis=0)
COLOURS = np.dstack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)])
FIRST_FRAME = ImageBounds.of(LimitSettings(animations="first_frame"))


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def animated(form: str) -> bytes:
    first, *others = (Image.fromarray(np.roll(COLOURS, 9 * n, axis=1)) for n in range(3))
    return saved(first, form, save_all=True, append_images=others, duration=40, **ANIMATIONS[form])


ANIMATIONS: dict[str, dict[str, object]] = {"PNG": {}, "WEBP": {"lossless": True}}


@pytest.mark.parametrize("form", ANIMATIONS)
def test_an_animation_has_an_error_of_its_own(form: str) -> None:
    for look in (probe, decode):
        with pytest.raises(ImageAnimated, match="send one frame"):
            look(animated(form), ImageBounds(1))


@pytest.mark.parametrize("form", ANIMATIONS)
def test_of_an_animation_the_first_frame_is_decoded_where_that_is_set(form: str) -> None:
    assert np.array_equal(decode(animated(form), FIRST_FRAME).rgb, COLOURS)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_file_with_one_frame_is_no_animation(form: str) -> None:
    data = saved(Image.fromarray(COLOURS), form, save_all=True, **ANIMATIONS[form])

    assert np.array_equal(decode(data).rgb, COLOURS)


def test_a_photo_with_a_preview_behind_it_is_no_animation() -> None:
    data = saved(Image.fromarray(COLOURS), "MPO", save_all=True, append_images=[Image.fromarray(RAMP)])

    assert probe(data, ImageBounds(1)).format == "jpeg"
    assert decode(data).rgb.shape == COLOURS.shape


OTHERS: dict[str, tuple[bytes, str]] = {
    "heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "image/heic"),
    "jxl": (b"\0\0\0\x0cJXL \r\n\x87\n", "image/jxl"),
    "psd": (b"8BPS\0\x01", "image/vnd.adobe.photoshop"),
    "pdf": (b"%PDF-1.7", "application/pdf"),
    "mp4": (b"\0\0\0\x18ftypisom", "video/mp4"),
    "svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "text such as HTML or SVG"),
    "page": (b"\xef\xbb\xbf\n<!doctype html><title>Sign in</title>", "text such as HTML or SVG"),
    "nothing": (b"", "empty"),
    "anything": (b"hello", "no image that is known"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_an_error_says_what_a_file_is_and_what_is_taken(name: str) -> None:
    data, what = OTHERS[name]

    with pytest.raises(UnsupportedImageFormat) as refused:
        decode(data + bytes(100) * bool(data), ImageBounds(1))

    assert f"the input is {what}; send a" in refused.value.detail
    for taken in ("PNG", "JPEG", "WebP"):
        assert taken in refused.value.detail
