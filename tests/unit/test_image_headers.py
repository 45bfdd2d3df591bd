"""The reader of headers: what it says of real files, what it refuses, and that hostile files cost it little."""

import io
import struct
import sys
import time
import tracemalloc
import warnings
import zlib
from collections import Counter
from collections.abc import Callable
from functools import cache
from types import FrameType

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from penstock.core.request import OutputOptions
from penstock.errors import ImageAnimated, ImageDecodeFailed, ImageTooLarge, PenstockError, UnsupportedImageFormat
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import encode
from penstock.pixels.headers import ImageBounds, ImageHeader, content_type_of, end_of, probe, probe_beginning
from tests.support.drive import scan_bomb

BOUNDS = ImageBounds(50)
COLOURS = np.random.default_rng(1).integers(0, 256, (24, 40, 3), dtype=np.uint8)
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SIGNATURE = b"\x89PNG\r\n\x1a\n"

FORMS = {
    "png": ("PNG", {}),
    "png, palette": ("PNG", {"mode": "P"}),
    "png, 16 bits": ("PNG", {"mode": "I;16"}),
    "jpeg": ("JPEG", {}),
    "jpeg, progressive": ("JPEG", {"progressive": True}),
    "jpeg, grey": ("JPEG", {"mode": "L"}),
    "jpeg, cmyk": ("JPEG", {"mode": "CMYK"}),
    "webp": ("WEBP", {}),
    "webp, lossless": ("WEBP", {"lossless": True}),
    "webp, alpha": ("WEBP", {"mode": "RGBA"}),
    "gif": ("GIF", {"mode": "P"}),
    "bmp": ("BMP", {}),
    "tiff": ("TIFF", {}),
    "tiff, packed": ("TIFF", {"compression": "tiff_lzw"}),
    "tiff, 16 bits": ("TIFF", {"mode": "I;16"}),
    "avif": ("AVIF", {"max_threads": 1}),
}
WITHOUT_END = ("tiff", "avif")
"""Formats whose files have no last part."""


def saved(form: str, pixels: np.ndarray = COLOURS, **options: object) -> bytes:
    format, more = FORMS[form]
    arguments = more | options
    mode = arguments.pop("mode", "RGB")
    image = Image.fromarray(pixels)
    image = image.convert("I").convert("I;16") if mode == "I;16" else image.convert(str(mode))
    out = io.BytesIO()
    image.save(out, format, **arguments)
    return out.getvalue()


def chunk(kind: bytes, body: bytes = b"") -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(*chunks: bytes, width: int = 8, height: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = min(height, 8)  # a bomb is one by its header
    pixels = zlib.compress((b"\0" + bytes(width)) * rows)
    return SIGNATURE + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IDAT", pixels) + chunk(b"IEND")


_FOR_8_PX = struct.pack("<IIHBHB", 10, 0x02, 7, 0, 7, 0)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


GIF = b"GIF89a\x08\0\x08\0\0\0\0"
AVIF_BEGINNING = struct.pack(">I", 24) + b"ftypavif\0\0\0\0avifmif1"


def bmp(width: int, height: int, compression: int = 0) -> bytes:
    return b"BM" + struct.pack("<IIIIiiHHI20x", 54, 0, 54, 40, width, height, 1, 24, compression)


def tiff(*further: tuple[int, int], width: int = 8, height: int = 8) -> bytes:
    """A TIFF of greys in one strip; `further` are tags and their numbers."""
    tags = dict(
        [(256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 8), (278, height), (279, 64), *further]
    )
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<I", 72) + bytes(64) + struct.pack("<H", len(tags)) + entries + bytes(4)


def segment(marker: int, body: bytes = b"") -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


@pytest.mark.parametrize("form", FORMS)
def test_size_and_end_of_every_form_are_known(form: str) -> None:
    data = saved(form)

    polyglot = data + b"PK\x03\x04 and what else is in the archive"
    header = probe(polyglot, BOUNDS)

    assert (header.width, header.height) == (40, 24)
    assert header.format == form.partition(",")[0]
    if header.format not in WITHOUT_END:
        assert end_of(polyglot, header) == len(data)
        assert end_of(data[:-4], probe(data[:-4], BOUNDS)) is None
    assert header.bits == (16 if "16 bits" in form else 8)
    assert content_type_of(data) == f"image/{header.format}"


def test_a_png_whose_last_chunk_breaks_off_has_no_end() -> None:
    data = png()
    broken = data[: data.index(b"IEND") - 4] + struct.pack(">I", 5) + data[data.index(b"IEND") :]

    assert end_of(broken, probe(broken, BOUNDS)) is None


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_profile_and_exif_are_noticed(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, rich = probe(saved(form), BOUNDS), probe(saved(form, icc_profile=PROFILE, exif=exif), BOUNDS)

    assert (plain.has_icc, plain.has_exif) == (False, False)
    assert (rich.has_icc, rich.has_exif) == (True, True)


@pytest.mark.parametrize("form", ["png", "png, palette", "webp", "webp, lossless"])
def test_transparency_is_noticed(form: str) -> None:
    see_through = np.dstack([COLOURS, COLOURS[..., 0]])
    format, more = FORMS[form]
    image, out = Image.fromarray(see_through), io.BytesIO()
    image = image.quantize(16) if form == "png, palette" else image
    image.save(out, format, **{name: value for name, value in more.items() if name != "mode"})

    assert probe(out.getvalue(), BOUNDS).has_alpha
    assert not probe(saved(form), BOUNDS).has_alpha


@pytest.mark.parametrize("form", ["TIFF", "GIF", "AVIF"])
def test_transparency_of_other_formats_is_noticed(form: str) -> None:
    for mode in ("RGB", "RGBA"):
        out = io.BytesIO()
        Image.new(mode, (16, 8), (200, 30, 90, 0)[: len(mode)]).save(out, form)

        assert probe(out.getvalue(), BOUNDS).has_alpha == (mode == "RGBA")


def test_the_transparent_colour_of_a_png_is_noticed() -> None:
    assert probe(png(chunk(b"tRNS", b"\0\1")), BOUNDS).has_alpha
    assert not probe(png(), BOUNDS).has_alpha
    assert not probe(saved("jpeg"), BOUNDS).has_alpha


def test_scans_are_counted_where_a_decoder_goes_through_them() -> None:
    assert probe(saved("jpeg"), BOUNDS).scans == 1
    assert probe(saved("jpeg, progressive"), BOUNDS).scans == 10
    assert probe(scan_bomb(40), BOUNDS).scans == 50


@pytest.mark.parametrize("form", FORMS)
def test_a_beginning_tells_the_size_or_that_more_is_needed(form: str) -> None:
    data = saved(form)
    whole = probe(data, BOUNDS)

    for size in range(12, len(data)):
        header = probe_beginning(data[:size], BOUNDS)
        assert header is None or (header.width, header.height) == (whole.width, whole.height)
    if form != "tiff, packed":  # whose directory is at its end
        assert probe_beginning(data[: len(data) // 2 + 700], BOUNDS) is not None


HOSTILE: dict[str, tuple[Callable[[], bytes], type[PenstockError] | None]] = {
    "png of 14,000 x 14,000": (lambda: png(width=14_000, height=14_000), ImageTooLarge),
    "png of 13,000 x 13,000": (lambda: png(width=13_000, height=13_000), ImageTooLarge),
    "png of 9,000 x 9,000": (lambda: png(width=9_000, height=9_000), ImageTooLarge),
    "png of 50,000 x 1": (lambda: png(width=50_000, height=1), None),
    "png of a million chunks": (lambda: png(chunk(b"teXt") * 1_000_000), ImageTooLarge),
    "png with a text that inflates to 100 MB": (lambda: png(chunk(b"zTXt", b"a\0\0" + bomb())), None),
    "png with a profile that inflates to 100 MB": (lambda: png(chunk(b"iCCP", b"a\0\0" + bomb())), None),
    "png of 10,000 frames": (lambda: png(chunk(b"acTL", struct.pack(">II", 10_000, 0))), ImageAnimated),
    "png whose frames are not announced": (lambda: png(chunk(b"fcTL", bytes(26)) * 10_000), ImageAnimated),
    "webp of 10,000 frames": (lambda: webp(b"VP8X" + _FOR_8_PX, *[b"ANMF" + bytes(28)] * 10_000), ImageAnimated),
    "jpeg of 100,000 scans": (lambda: scan_bomb(100_000), ImageTooLarge),
    "jpeg of 100,000 markers": (lambda: b"\xff\xd8" + segment(0xE1) * 100_000, ImageTooLarge),
    "jpeg of nothing but padding": (lambda: b"\xff" * 2 + b"\xd8" + b"\xff" * 2**20, UnsupportedImageFormat),
    "jpeg with a megabyte of padding": (lambda: b"\xff\xd8" + b"\xff" * 2**20, ImageDecodeFailed),
    "jpeg with a megabyte of stuffed bytes": (lambda: saved("jpeg, progressive")[:-2] + b"\xff\0" * 2**19, None),
    "webp of a million chunks": (lambda: webp(b"junk\0\0\0\0" * 1_000_000), ImageTooLarge),
    "gif of 10,000 frames": (lambda: GIF + b",\0\0\0\0\x08\0\x08\0\0\2\1\0\0" * 10_000, ImageAnimated),
    "gif of a million parts": (lambda: GIF + b",\0\0\0\0\x08\0\x08\0\0\2" + b"\1\0" * 1_000_000, ImageTooLarge),
    "gif of a million comments": (lambda: GIF + b"!\xfe\0" * 1_000_000, ImageTooLarge),
    "gif of 65,535 x 65,535": (lambda: GIF + b",\0\0\0\0\xff\xff\xff\xff\0\2\1\0\0;", ImageTooLarge),
    "bmp of 30,000 x 30,000": (lambda: bmp(30_000, 30_000), ImageTooLarge),
    "bmp of run lengths": (lambda: bmp(8, 8, compression=1), ImageDecodeFailed),
    "tiff without anything": (lambda: b"II*\0" + bytes(1000), ImageDecodeFailed),
    "tiff of 65,000 entries": (lambda: b"II*\0\x08\0\0\0\xe8\xfd" + bytes(12 * 65_000), ImageDecodeFailed),
    "tiff of 30,000 x 30,000": (lambda: tiff(width=30_000, height=30_000), ImageTooLarge),
    "avif of a million boxes": (lambda: AVIF_BEGINNING + b"\0\0\0\x08free" * 1_000_000, ImageTooLarge),
    "avif sequence": (lambda: AVIF_BEGINNING.replace(b"avif", b"avis", 1), ImageAnimated),
}


@cache
def bomb() -> bytes:
    """Bytes that inflate to 100 MB."""
    return zlib.compress(bytes(100_000_000), 9)


def a_million_steps() -> int:
    """Takes 40 ms or so; a slower machine takes more for all."""
    return sum(n & 1 for n in range(1_000_000))


@pytest.mark.parametrize("name", HOSTILE)
def test_up1_a_hostile_file_is_judged_by_its_header_for_100_ms_and_no_memory(name: str) -> None:
    make, error = HOSTILE[name]
    data = make()

    def judge() -> ImageHeader | None:
        if error is None:
            return probe(data, BOUNDS)
        with pytest.raises(error):
            probe(data, BOUNDS)
        return None

    ratio = min(_cpu_s(judge) / _cpu_s(a_million_steps) for _ in range(3))
    tracemalloc.start()
    judge()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert ratio < 3
    assert peak < 2**20


MANY_FF = [b"\xff", b"\xff\0", b"\xff\xff\0", b"\xff\0\xd0\xd7"]


@pytest.mark.parametrize("filling", MANY_FF)
def test_many_ff_are_passed_in_a_few_steps_and_not_one_by_one(filling: bytes) -> None:
    data = saved("jpeg, progressive")[:-2] + filling * (2**23 // len(filling)) + b"\xff\xd9"
    short = saved("jpeg, progressive")

    plain, steps = _counted(lambda: probe(short, BOUNDS)), _counted(lambda: probe(data, BOUNDS))

    assert steps["search"] <= plain["search"]  # each of which tries one FF after the other
    assert steps.total() - plain.total() < len(data) // 2**13
    assert probe(data, BOUNDS).end == len(data)


def _counted(call: Callable[[], object]) -> Counter[str]:
    """The calls of Python and of C that it makes, by their names."""
    counts: Counter[str] = Counter()

    def count(frame: FrameType, event: str, what: object) -> None:
        if event in ("call", "c_call"):
            counts[frame.f_code.co_name if event == "call" else str(getattr(what, "__name__", ""))] += 1

    sys.setprofile(count)
    try:
        call()
    finally:
        sys.setprofile(None)
    return counts


@pytest.mark.parametrize("filling", [*MANY_FF, b"\x01", b"\xff" + bytes(30)])
@pytest.mark.parametrize("size", [0, 31, 62, 190, 702, 2750, 10_942, 43_710, 109_246, 174_782])
def test_a_marker_is_found_wherever_a_piece_ends(filling: bytes, size: int) -> None:
    before = b"\xff\xd8" + segment(0xC2, b"\x08\0\x10\0\x10\x01\x01\x11\0")
    for more in range(4):
        data = before + (filling * (size // len(filling) + 1))[: size + more] + b"\xff\xd9"
        header = probe_beginning(data, BOUNDS)  # there is no scan in it
        assert header is not None
        assert header.end == len(data)


def _cpu_s(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began


@pytest.mark.parametrize(
    "data",
    [
        SIGNATURE + chunk(b"IDAT", bytes(40)),
        png(width=0),
        png(height=0),
        b"\xff\xd8" + segment(0xDA, bytes(10)) + b"\xff\xd9",
        b"\xff\xd8" + segment(0xC0, b"\x08\0\x10\0\x10\x01") * 2 + b"\xff\xd9",
        b"\xff\xd8" + segment(0xC0, b"\x08\0\x10\0\0\x01") + b"\xff\xd9",
        b"\xff\xd8" + segment(0xC0, b"\x08") + b"\xff\xd9",
        b"\xff\xd8\xff\xe0\0\0" + bytes(100),
        b"\xff\xd8\xff\xd9",
        b"RIFF\x14\0\0\0WEBPVP8 \x0a\0\0\0" + bytes(10),
        b"RIFF\x14\0\0\0WEBPVP8L\x05\0\0\0" + bytes(10),
        b"RIFF\x04\0\0\0WEBP",
        AVIF_BEGINNING + struct.pack(">I4sI", 20, b"meta", 0) + struct.pack(">I4s", 100, b"pitm"),
        AVIF_BEGINNING + struct.pack(">I4sI", 20, b"meta", 0) + struct.pack(">I4s", 4, b"pitm"),
        b"RIFF\x0e\0\0\0WEBPVP8X" + bytes(14),  # a size behind the end that the file says
    ],
)
def test_a_damaged_header_is_refused(data: bytes) -> None:
    with pytest.raises(ImageDecodeFailed):
        probe(data, BOUNDS)


def test_a_webp_has_one_size() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = bytearray(saved("webp", exif=exif))
    data[data.index(b"VP8X") + 12] ^= 1

    with pytest.raises(ImageDecodeFailed, match="two sizes"):
        probe(bytes(data), BOUNDS)


@pytest.mark.parametrize("bounds", [ImageBounds(50, scans=9), ImageBounds(50, chunks=9), ImageBounds(0.0005)])
def test_each_bound_holds(bounds: ImageBounds) -> None:
    with pytest.raises(ImageTooLarge):
        probe(saved("jpeg, progressive"), bounds)


OTHERS = {
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "psd": b"8BPS\0\x01" + bytes(6) + b"\0\x03",
    "fits": b"SIMPLE  =                    T",
    "pdf": b"%PDF-1.7\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "ico": b"\0\0\x01\0\x01\0",
    "big tiff": b"MM\0+\0\x08\0\0",
    "heic": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
    "jpeg 2000": b"\0\0\0\x0cjP  \r\n\x87\n",
    "hdf5": b"\x89HDF\r\n\x1a\n",
    "bufr": b"BUFR\0\0\0\x04",
    "fli": b"\0\x10\0\0\x11\xaf\x01\0",
}


@pytest.mark.parametrize("name", OTHERS)
def test_up10_formats_whose_decoders_had_faults_never_reach_one(name: str) -> None:
    data = OTHERS[name] + bytes(1000)

    for look in (probe, probe_beginning, decode):
        with pytest.raises(UnsupportedImageFormat):
            look(data, BOUNDS)


@pytest.mark.parametrize("form", ["png", "jpeg", "webp", "gif", "bmp", "tiff"])
def test_up3_of_a_polyglot_only_the_pixels_are_left(form: str) -> None:
    other = b"PK\x03\x04<html><script>alert(1)</script></html>"
    data = saved(form) + other

    picture = decode(data, BOUNDS)

    assert np.array_equal(picture.rgb, decode(saved(form), BOUNDS).rgb)
    for format in ("png", "jpeg", "webp"):
        assert other not in encode(picture, OutputOptions(format=format))


BROKEN = {
    "no bytes": (b"", UnsupportedImageFormat),
    "nothing but a signature": (SIGNATURE, ImageDecodeFailed),
    "half of a png": (saved("png")[: len(saved("png")) // 2], ImageDecodeFailed),
    "half of a jpeg": (saved("jpeg")[: len(saved("jpeg")) // 2], ImageDecodeFailed),
    "half of a webp": (saved("webp")[: len(saved("webp")) // 2], ImageDecodeFailed),
    "a wrong checksum of the header": (png()[:29] + b"\0\0\0\0" + png()[33:], ImageDecodeFailed),
    "pixels that do not inflate": (png().replace(b"IDATx", b"IDATy"), ImageDecodeFailed),
}


@pytest.mark.parametrize("name", BROKEN)
def test_up5_what_is_broken_is_refused_with_a_code(name: str) -> None:
    data, error = BROKEN[name]

    with pytest.raises(error):
        decode(data, BOUNDS)


@pytest.mark.parametrize("form", FORMS)
def test_up5_the_smallest_image_of_every_form_is_decoded(form: str) -> None:
    assert decode(saved(form, COLOURS[:1, :1]), BOUNDS).rgb.shape == (1, 1, 3)


@pytest.mark.parametrize("form", ["png", "jpeg", "webp"])
def test_damaged_exif_is_dropped_without_a_warning(form: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a text that is cut off"
    data = saved(form, exif=exif.tobytes()[:40])

    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        decode(data, BOUNDS)

    assert [str(one.message) for one in warned] == []


MUTATED = [saved(form) for form in FORMS] + [png(chunk(b"tEXt", b"a\0b")), saved("jpeg", icc_profile=PROFILE)]


@settings(max_examples=150)
@given(
    which=st.integers(0, len(MUTATED) - 1),
    edits=st.lists(st.tuples(st.integers(0, 400), st.binary(max_size=6), st.integers(0, 6)), min_size=1, max_size=4),
)
@example(which=0, edits=[(16, b"\0\0", 2)])
def test_up6_mutated_files_meet_nothing_but_codes_and_have_the_size_that_is_decoded(
    which: int, edits: list[tuple[int, bytes, int]]
) -> None:
    data = MUTATED[which]
    for at, new, old in edits:
        data = data[:at] + new + data[at + old :]
    try:
        header = probe(data, BOUNDS)
        picture = decode(data, BOUNDS)
    except PenstockError as error:
        assert error.status in (415, 422)  # noqa: PT017  what is raised otherwise fails the test
        return
    height, width = picture.rgb.shape[:2]
    assert {height, width} == {header.height, header.width}


@settings(max_examples=150)
@given(st.sampled_from([SIGNATURE, b"\xff\xd8\xff", b"RIFF\xff\0\0\0WEBP"]), st.binary(max_size=300))
def test_up6_any_bytes_behind_a_signature_meet_nothing_but_codes(signature: bytes, rest: bytes) -> None:
    try:
        probe(signature + rest, BOUNDS)
    except PenstockError as error:
        assert error.status == 422  # noqa: PT017
