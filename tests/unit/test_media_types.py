"""The media type of a file: what its bytes say, what a client says, and what a member takes."""

import gzip
import io
import wave
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from penstock.core.media_types import UNKNOWN, declared_type, fits, kind_of, media_type


def picture(file_format: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, file_format)
    return file.getvalue()


def wav() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(2), sound.setframerate(16_000)
        sound.writeframes(bytes(320))
    return file.getvalue()


def arrays(save: str) -> bytes:
    file = io.BytesIO()
    getattr(np, save)(file, np.zeros(3))
    return file.getvalue()


def archive() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as packed:
        packed.writestr(zipfile.ZipInfo("a.txt"), "a")  # whose date does not change
    return file.getvalue()


OGG = b"OggS\0\2" + bytes(20) + b"\1\x13"
MP4 = b"\0\0\0\x20ftypisom\0\0\2\0"

FILES = {
    **{f"image/{name.lower()}": picture(name) for name in ("PNG", "JPEG", "WEBP", "GIF", "TIFF", "BMP")},
    "audio/wav": wav(),
    "audio/mpeg": b"ID3\4\0\0\0\0\0\x23",
    "audio/flac": b"fLaC\0\0\0\x22",
    "audio/ogg": OGG + b"OpusHead",
    "video/ogg": OGG + b"\x80theora",
    "audio/mp4": b"\0\0\0\x20ftypM4A \0\0\0\0",
    "video/mp4": MP4,
    "video/webm": b"\x1aE\xdf\xa3\x9fB\x86\x81\1B\xf7\x81\1B\xf2\x81\4B\xf3\x81\x08B\x82\x84webm",
    "application/pdf": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    "application/zip": archive(),
    "application/gzip": gzip.compress(b"a", mtime=0),
    "application/x-npy": arrays("save"),
}


@pytest.mark.parametrize("expected", FILES)
def test_the_first_bytes_say_what_a_file_is_whatever_it_is_called(expected: str) -> None:
    assert media_type(FILES[expected]) == expected
    assert media_type(FILES[expected], "text/plain") == expected


def test_an_mp3_without_tags_is_known_by_its_first_frame() -> None:
    assert media_type(b"\xff\xfb\x90\x64" + bytes(400)) == "audio/mpeg"
    assert kind_of(b"\xff\xfb\xf0\x64" + bytes(400)) is None, "there is no such bit rate"


@pytest.mark.parametrize("text", [b"", b"hello", b'{"a": 1}', b"a,b\n1,2\n", b"<svg/>", bytes(600), b"BM is short"])
def test_bytes_that_say_nothing_are_what_the_client_says(text: bytes) -> None:
    assert kind_of(text) is None
    assert media_type(text, "Text/CSV; charset=utf-8") == "text/csv"
    assert media_type(text) == UNKNOWN


@pytest.mark.parametrize(
    "declared", [None, "", "application/octet-stream", "nonsense", "a/b/c", "x" * 300 + "/y", "é/ü", "*/*", "audio/*"]
)
def test_some_declared_types_say_nothing(declared: str | None) -> None:
    assert declared_type(declared) is None


@pytest.mark.parametrize(
    ("content", "declared"),
    [
        (arrays("savez"), "application/x-npz"),
        (archive(), "application/epub+zip"),
        (gzip.compress(b"a", mtime=0), "application/x-tgz"),
        (MP4, "audio/mp4"),
        (FILES["audio/wav"], "audio/x-wav"),
    ],
)
def test_a_declared_type_counts_where_the_bytes_leave_it_open(content: bytes, declared: str) -> None:
    assert media_type(content, declared) == declared
    assert fits((declared,), content)


@pytest.mark.parametrize(
    ("takes", "content", "declared", "expected"),
    [
        ((), FILES["application/pdf"], None, True),
        (("audio/*",), FILES["audio/wav"], None, True),
        (("audio/*",), MP4, None, True),  # perhaps only sound
        (("audio/*",), FILES["image/png"], "audio/wav", False),
        (("audio/wav",), FILES["audio/flac"], None, False),
        (("AUDIO/X-WAV",), FILES["audio/wav"], None, True),
        (("application/x-npz",), arrays("savez"), None, True),
        (("image/*",), archive(), None, False),
        (("text/csv",), b"a,b", None, True),  # nobody says what it is
        (("text/csv",), b"a,b", "text/html", False),
        (("text/csv", "*/*"), b"a,b", "text/html", True),
        (("video/*",), MP4, "audio/mp4", False),  # the client knows that there is only sound
    ],
)
def test_a_member_takes_files_of_its_types(
    takes: tuple[str, ...], content: bytes, declared: str | None, expected: bool
) -> None:
    assert fits(takes, content, declared) is expected


@given(st.binary(max_size=600), st.none() | st.text(max_size=40), st.lists(st.text(max_size=20), max_size=3))
def test_any_bytes_and_any_declared_type_have_a_media_type(
    content: bytes, declared: str | None, takes: list[str]
) -> None:
    found = media_type(content, declared)

    assert found.count("/") == 1
    assert fits((found,), content, declared)
    assert fits(takes, content, declared) in (True, False)
