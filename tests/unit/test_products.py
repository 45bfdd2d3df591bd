"""What `postprocess` may return."""

import io
import wave
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from penstock.core.request import OutputOptions
from penstock.errors import ImageTooLarge, ModelResultInvalid
from penstock.models.base import Product, ProductFile
from penstock.models.products import product_of
from penstock.pixels.picture import Picture
from penstock.settings import LimitSettings
from penstock.worker.results import published

PNG = OutputOptions()
RGB = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3)
PHOTO = Path(__file__).parents[2] / "src/penstock/models/photo.jpg"


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def file_of(returned: Any, output: OutputOptions = PNG) -> ProductFile:
    """The one file of the result, as it would be stored."""
    result, stored = published(product_of(returned, output), "key", produces="any", limits=LimitSettings())
    assert stored is not None
    (artifact,), (item,) = result.artifacts, stored.items
    return ProductFile(artifact.name, item.data, artifact.content_type, artifact.width, artifact.height)


def data_of(returned: Any) -> Any:
    result, stored = published(product_of(returned, PNG), "key", produces="any", limits=LimitSettings())
    assert stored is None
    return result.data


def test_st3_every_file_of_a_result_is_to_be_stored_once() -> None:
    others = [ProductFile(name, b"x", "text/plain") for name in ("a.txt", "b.txt")]
    product = Product(file=b"first", files=others)

    _, stored = published(product, "key", produces="any", limits=LimitSettings())

    assert stored is not None
    assert [item.once for item in stored.items] == [True, True, True]


class Tensor:
    """As those of frameworks that numpy can read."""

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        return np.array([0.5, 2.0])


@pytest.mark.parametrize(
    ("returned", "shown"),
    [
        (RGB, RGB),
        (RGB[..., 0], RGB[..., 0]),
        (RGB[..., :1], RGB[..., 0]),
        (np.dstack([RGB, RGB[..., 0]]), np.dstack([RGB, RGB[..., 0]])),
        (RGB[::-1, ::2], RGB[::-1, ::2]),
        (Image.fromarray(RGB), RGB),
        (Image.fromarray(RGB[..., 0]), RGB[..., 0]),
        (Image.fromarray(RGB[..., 0] > 20), np.where(RGB[..., 0] > 20, 255, 0)),
        (Image.fromarray(RGB).convert("P", palette=Image.Palette.ADAPTIVE), RGB),
        (Picture(RGB), RGB),
    ],
    ids=["rgb", "grey", "one channel", "rgba", "strided", "pillow", "pillow grey", "bits", "palette", "picture"],
)
def test_an_image_is_a_file_of_the_format_that_the_client_asks_for(returned: Any, shown: np.ndarray) -> None:
    file = file_of(returned)

    assert (file.name, file.content_type) == ("result.png", "image/png")
    assert (file.width, file.height) == (shown.shape[1], shown.shape[0])
    assert (pixels(file.content) == shown).all()


@pytest.mark.parametrize(("width", "is_one"), [(0, True), (2**31 - 1, True), (2**31, False), (-1, False), (1.0, False)])
def test_the_side_of_an_image_is_a_number_that_json_and_clients_can_hold(width: Any, is_one: bool) -> None:
    returned = ProductFile("a.png", b"x", "image/png", width, 1)
    with nullcontext() if is_one else pytest.raises(ModelResultInvalid, match="the width of the result is"):
        assert file_of(returned).width == width


@pytest.mark.parametrize("form", ["jpeg", "webp"])
@pytest.mark.parametrize("returned", [RGB, RGB[..., 0], np.dstack([RGB, RGB[..., 0]])], ids=["rgb", "grey", "rgba"])
def test_every_image_can_be_asked_for_in_every_format(returned: np.ndarray, form: Any) -> None:
    file = file_of(returned, OutputOptions(format=form))

    assert (file.name, file.content_type) == (f"result.{form}", f"image/{form}")
    assert pixels(file.content).shape[:2] == (4, 6)


@pytest.mark.parametrize(
    ("returned", "data"),
    [
        ({"score": np.float32(0.5), "box": np.array([1, 2], np.uint8)}, {"score": 0.5, "box": [1, 2]}),
        (np.array([[0.25, 1.0]], np.float32), {"output": [[0.25, 1.0]]}),
        (RGB[None], {"output": RGB[None].tolist()}),
        (RGB[:0], {"output": []}),
        (RGB > 300, {"output": (RGB > 300).tolist()}),
        (np.int64(3), {"output": 3}),
        (0.5, {"output": 0.5}),
        ("a cat", {"output": "a cat"}),
        ([1, 2], {"output": [1, 2]}),
        ([], {"output": []}),
        ([{"label": "cat"}], {"output": [{"label": "cat"}]}),
        (Tensor(), {"output": [0.5, 2.0]}),
        ({}, {}),
    ],
)
def test_what_is_no_file_is_data(returned: Any, data: dict[str, Any]) -> None:
    assert data_of(returned) == data


def test_bytes_are_a_file_whose_type_they_say() -> None:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as writer:
        writer.setparams((1, 2, 16_000, 0, "NONE", ""))
        writer.writeframes(bytes(64))

    photo, audio, unknown = file_of(PHOTO.read_bytes()), file_of(bytearray(sound.getvalue())), file_of(b"\0\1")

    assert (photo.name, photo.content_type) == ("result.jpeg", "image/jpeg")
    assert (photo.height, photo.width) == pixels(PHOTO.read_bytes()).shape[:2]
    assert (audio.name, audio.content_type, audio.width) == ("result.wav", "audio/wav", None)
    assert (unknown.name, unknown.content_type, unknown.content) == (
        "result.bin", "application/octet-stream", b"\0\1"
    )  # fmt: skip


def test_a_list_of_files_is_several_files() -> None:
    product = product_of([RGB, ProductFile("notes.txt", b"n", "text/plain"), b"%PDF-1.7"], PNG)

    assert [(file.name, file.content_type) for file in product.files] == [
        ("1.png", "image/png"),
        ("notes.txt", "text/plain"),
        ("3.pdf", "application/pdf"),
    ]
    assert (product.file, product.data) == (None, None)


def test_the_images_of_a_mapping_are_files_and_the_rest_is_data() -> None:
    product = product_of({"mask": Image.fromarray(RGB), "score": 0.5, "raw": ProductFile("raw.npy", b"r")}, PNG)

    assert [file.name for file in product.files] == ["mask.png", "raw.npy"]
    assert product.data == {"score": 0.5}


def test_a_file_with_a_name_keeps_it_and_a_product_is_left_alone() -> None:
    product = Product(data={"a": 1})

    assert product_of(ProductFile("a.wav", b"x", "audio/wav"), PNG).files[0].name == "a.wav"
    assert product_of(product, PNG) is product


def test_what_cannot_be_a_result_is_refused_in_one_line() -> None:
    with pytest.raises(ModelResultInvalid, match="postprocess returned nothing"):
        product_of(None, PNG)
    with pytest.raises(ImageTooLarge, match="ask for png"):
        product_of(np.zeros((1, 17_000), np.uint8), OutputOptions(format="webp"))
    with pytest.raises(ModelResultInvalid, match="not one"):
        file_of({"../mask": Image.fromarray(RGB)})
