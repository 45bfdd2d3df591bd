"""Inputs of the comparisons: images as PNG files, and arrays by name. They are made here, so that every run has the
same ones."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

import penstock.models

PHOTO = Path(penstock.models.__file__).parent / "photo.jpg"
TEXT = "Any ONNX file without code: a page of text, in two columns"

Arrays = Mapping[str, NDArray[Any]]


def png(image: Image.Image) -> bytes:
    """The bytes of a PNG file."""
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


def _photo(width: int, height: int) -> Image.Image:
    return Image.open(PHOTO).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)


def photo() -> bytes:
    """A photo of a usual form."""
    return png(_photo(463, 309))


def photo_256() -> bytes:
    """A photo whose shorter side has 256 px."""
    return png(_photo(384, 256))


def photo_1024() -> bytes:
    """A photo of 1024 × 1024 px."""
    return png(_photo(1024, 1024))


def photo_even() -> bytes:
    """A small photo with even sides."""
    return png(_photo(288, 256))


def face() -> bytes:
    """A piece of a photo as a network for faces takes it."""
    return png(_photo(72, 48).crop((12, 0, 60, 48)))


def page() -> bytes:
    """A page of text with headings and a picture."""
    return png(_page(620, 877))


def page_of_32s() -> bytes:
    """A page whose sides are multiples of 32."""
    return png(_page(736, 960))


def _page(width: int, height: int) -> Image.Image:
    image = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(image)
    draw.text((60, 50), "Open models", "black", ImageFont.load_default(40))
    for row in range(14):
        draw.text((60, 130 + 22 * row), TEXT[: 50 - row % 3], "black", ImageFont.load_default(16))
    image.paste(_photo(300, 200), (120, 470))
    draw.text((150, 690), "Figure 1: a photo", "black", ImageFont.load_default(14))
    draw.text((60, 740), "ISBN 978-3-16-148410-0", "black", ImageFont.load_default(24))
    return image


def line() -> bytes:
    """A line of text of 48 px height and some width."""
    image = Image.new("RGB", (180, 48), "white")
    ImageDraw.Draw(image).text((8, 6), "Penstock 15", "black", ImageFont.load_default(30))
    return png(image)


def captcha() -> bytes:
    """Some large signs on a coloured ground."""
    image = _photo(344, 384)
    draw = ImageDraw.Draw(image)
    for n, sign in enumerate("K7QX"):
        draw.text((30 + 75 * n, 60 + 60 * n), sign, ("yellow", "red", "white", "cyan")[n], ImageFont.load_default(60))
    return png(image)


def sound() -> Arrays:
    """A piece of 32 ms at 16 kHz with what came before it, as the package's own wrapper gives it."""
    time = np.arange(64 + 512) / 16_000
    wave = 0.3 * np.sin(2 * np.pi * 180 * time) + 0.1 * np.sin(2 * np.pi * 900 * time)
    state = np.zeros((2, 1, 128), np.float32)
    return {"input": wave.astype(np.float32)[None], "state": state, "sr": np.array(16_000, np.int64)}


def music() -> Arrays:
    """Two seconds of a chord at 22,050 Hz, a window of the network."""
    time = np.arange(43_844) / 22_050
    chord = sum(0.2 * np.sin(2 * np.pi * pitch * time) for pitch in (220.0, 277.18, 329.63))
    return {"serving_default_input_2:0": np.asarray(chord, np.float32)[None, :, None]}


SOURCE = Path(__file__)
"""A file whose type is asked for."""


def source_code() -> Arrays:
    """The first and last 1024 bytes of a Python file without the white space around it."""
    content = SOURCE.read_bytes()
    parts = [list(content[:4096].lstrip()[:1024]), list(content[-4096:].rstrip()[-1024:])]
    return {"bytes": np.array([parts[0] + parts[1]], np.int32)}


def tokens() -> Arrays:
    """`hello world` as the tokens of BERT."""
    ids = np.array([[101, 7592, 2088, 102]], np.int64)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
