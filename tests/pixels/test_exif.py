"""EXIF is rewritten: only what is known goes into a result, whatever a file says."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from penstock.pixels.exif import FileMetadata, metadata_of, rewritten
from penstock.pixels.exif.directories import MOST_BYTES, OF_EXPOSURE, OF_IMAGE, OF_PLACE


def block(**changes: str) -> bytes:
    exif = Image.Exif()
    for tag, value in {0x010E: "a lake", 0x0112: 6, 0x011A: 72.0, 0x011B: 72.0, 0x0128: 2, 0x013B: "Ansel"}.items():
        exif[tag] = value
    exif.get_ifd(0x8769).update({0x829A: 0.02, 0xA002: 4000, 0xA003: 3000, 0xA001: 65535, 0x927C: b"maker" * 9})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 20.0, 1.5), 29: "2026:11:22"})
    exif[0xC4A5] = changes.get("unknown", "a tag of somebody")
    return exif.tobytes().removeprefix(b"Exif\0\0")


def read(data: bytes) -> Image.Exif:
    exif = Image.Exif()
    exif.load(data)
    return exif


@pytest.mark.parametrize("keep_location", [False, True])
def test_what_is_true_of_another_file_alone_is_left_out(keep_location: bool) -> None:
    exif = read(rewritten(block(), keep_location=keep_location))

    assert set(dict(exif)) - {0x8769, 0x8825} == {0x010E, 0x011A, 0x011B, 0x0128, 0x013B}
    assert exif.get_ifd(0x8769) == {0x829A: 0.02}
    place = {1: "N", 2: (47.0, 20.0, 1.5), 29: "2026:11:22"}
    assert exif.get_ifd(0x8825) == (place if keep_location else {})


def test_no_byte_of_a_place_is_left() -> None:
    data = rewritten(block())

    assert b"2026:11:22" not in data
    assert b"somebody" not in data
    assert b"maker" not in data


def test_a_resolution_that_is_asked_for_takes_the_place_of_the_one_before() -> None:
    exif = read(rewritten(block(), dpi=300))

    assert (exif[0x011A], exif[0x011B], exif[0x0128]) == (300.0, 300.0, 2)


def test_a_block_is_never_longer_than_a_jpeg_can_hold() -> None:
    exif = Image.Exif()
    exif[0x013B] = "Ansel"
    for tag in (0x010E, 0x010F, 0x0110, 0x0131, 0x8298):
        exif[tag] = "x" * 15_000
    exif.get_ifd(0x8769)[0x9286] = b"y" * 15_000

    data = rewritten(exif.tobytes().removeprefix(b"Exif\0\0"))

    assert len(data) <= MOST_BYTES + 100
    assert read(data)[0x013B] == "Ansel"


@given(st.binary(max_size=300), st.sampled_from([b"II*\0\x08\0\0\0", b"MM\0*\0\0\0\x08", b""]), st.booleans())
@settings(max_examples=300)
def test_any_bytes_give_a_sound_block_or_none(data: bytes, head: bytes, keep_location: bool) -> None:
    made = rewritten(head + data, keep_location=keep_location)

    if made:
        assert set(dict(read(made))) <= OF_IMAGE | {0x8769, 0x8825}
        assert rewritten(made, keep_location=True) == made


@given(st.integers(0, 400), st.integers(0, 255))
@settings(max_examples=300)
def test_a_damaged_block_loses_what_is_damaged_alone(at: int, value: int) -> None:
    data = bytearray(block())
    data[at % len(data)] = value

    made = rewritten(bytes(data), keep_location=True)

    assert len(made) <= 2 * len(data)  # one value may now span others
    if made:
        exif = read(made)
        assert set(exif.get_ifd(0x8769)) <= OF_EXPOSURE
        assert set(exif.get_ifd(0x8825)) <= OF_PLACE


@given(st.sampled_from([b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF____WEBP", b"II*\0"]), st.binary(max_size=200))
@settings(max_examples=200)
def test_of_a_damaged_file_nothing_is_read(magic: bytes, data: bytes) -> None:
    assert isinstance(metadata_of(magic + data), FileMetadata)


def test_many_parts_are_not_all_looked_at() -> None:
    chunk = struct.pack(">I", 0) + b"tEXt" + bytes(4)
    exif = struct.pack(">I", 4) + b"eXIf" + b"II*\0" + bytes(4)
    png = b"\x89PNG\r\n\x1a\n"

    assert metadata_of(png + 10 * chunk + exif).exif == b"II*\0"
    assert metadata_of(png + 3000 * chunk + exif).exif == b""


def avif() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (16, 8), "red").save(out, "AVIF", exif=b"Exif\0\0" + block(), max_threads=1)
    return out.getvalue()


def test_an_avif_has_its_exif_as_an_item() -> None:
    exif = read(rewritten(metadata_of(avif()).exif))

    assert exif[0x013B] == "Ansel"
    assert exif.get_ifd(0x8769) == {0x829A: 0.02}


def test_an_avif_that_is_damaged_anywhere_has_its_exif_or_none() -> None:
    data = avif()
    for at in range(len(data)):
        metadata_of(data[:at])
        for wrong in (b"\x00", b"\xff"):
            rewritten(metadata_of(data[:at] + wrong + data[at + 1 :]).exif)
