"""What a model declares as its inputs, and the mapping that it gets for them."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from penstock.core.model import Member
from penstock.errors import ConfigurationError, ImageTooLarge
from penstock.models.base import size_of
from penstock.models.members import InputFile, InputMembers, members_of
from penstock.pixels.headers import ImageBounds

PHOTO = (Path(__file__).parents[2] / "src/penstock/models/photo.jpg").read_bytes()


def test_a_file_is_its_bytes_with_a_type_a_name_and_an_image() -> None:
    file = InputFile(PHOTO, name="photo.jpg")

    assert file == PHOTO
    assert (file.content_type, file.name) == ("image/jpeg", "photo.jpg")
    assert file.image().rgb.shape == np.asarray(Image.open(io.BytesIO(PHOTO))).shape
    assert file.image().pillow().size == Image.open(io.BytesIO(PHOTO)).size


def test_an_image_is_decoded_within_the_limit_of_the_operator() -> None:
    with pytest.raises(ImageTooLarge):
        InputFile(PHOTO, bounds=ImageBounds(0.001)).image()


def test_bytes_of_no_image_have_the_type_that_was_sent_or_none() -> None:
    assert InputFile(b"RIFF....WAVE").content_type == "application/octet-stream"
    assert InputFile(b"RIFF....WAVE", content_type="audio/wav").content_type == "audio/wav"


def test_the_only_image_has_both_its_names_and_comes_once() -> None:
    members = InputMembers({"photo": b"p", "text": "hi"}, "photo")

    assert members["image"] is members["image_url"] is members["photo"]
    assert members.get("image_url") == b"p"
    assert "image" in members
    assert list(members) == ["photo", "text"]


def test_a_member_that_was_not_sent_is_missing() -> None:
    members = InputMembers({"text": "hi"}, "photo")

    assert members.get("image") is members.get("mask") is None
    assert "image" not in members
    with pytest.raises(KeyError, match="mask"):
        members["mask"]
    with pytest.raises(KeyError, match="image"):
        InputMembers({"image_a": b"", "image_b": b""})["image"]


def test_the_size_of_an_input_is_that_of_all_its_members() -> None:
    assert size_of(b"12345") == 5
    assert size_of({"audio": InputFile(b"12345"), "text": "hi"}) == 5 + len('"hi"')


def test_members_are_declared_by_a_word_or_in_full() -> None:
    wav = Member(kind="file", media_types=("audio/wav",))

    assert members_of({"audio": wav, "text": "json"}, owner="X") == {"audio": wav, "text": Member(kind="json")}


@pytest.mark.parametrize(
    ("declared", "says"),
    [
        (["image"], r"X\.inputs is \['image'\]: write a mapping"),
        ({"audio": "sound"}, r"X\.inputs\['audio'\] is 'sound': write \"image\", \"file\", \"json\" or a Member"),
        ({"audio": Member(kind="sound")}, 'write "image", "file", "json" or a Member'),  # type: ignore[arg-type]
        ({"two words": "file"}, "'two words' cannot be the name of a member"),
        ({"image_url": "image"}, "neither image_url nor upload_id"),
    ],
)
def test_inputs_of_a_wrong_form_are_refused_in_one_line(declared: object, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says) as refused:
        members_of(declared, owner="X")

    assert "\n" not in str(refused.value)
