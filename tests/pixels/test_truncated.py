"""What was really decoded counts: an image with pixels that are not in its file is refused, whatever its end says."""

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from penstock.errors import ImageDecodeFailed
from penstock.pixels.decoding import decode
from penstock.pixels.headers import ImageBounds, probe, probe_beginning
from penstock.pixels.picture import PixelForm
from tests.pixels.pngs import chunk
from tests.pixels.pngs import png as sixteen_bits_png

NOISE = np.random.default_rng(0).integers(0, 256, (120, 200, 3), dtype=np.uint8)
EOI = b"\xff\xd9"


def saved(form: str, mode: str = "RGB", pixels: np.ndarray = NOISE, **options: object) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(out, form, **options)
    return out.getvalue()


def by_pillow(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


JPEGS: dict[str, bytes] = {
    "4:2:0": saved("JPEG"),
    "4:4:4": saved("JPEG", subsampling=0),
    "4:2:2, odd": saved("JPEG", pixels=NOISE[:119, :197], subsampling=1),
    "grey": saved("JPEG", "L"),
    "progressive": saved("JPEG", progressive=True),
    "grey, progressive": saved("JPEG", "L", progressive=True),
    "restarts": saved("JPEG", restart_marker_blocks=3),
    "RGB in the file": saved("JPEG", keep_rgb=True),
}
ALL_JPEGS = JPEGS | {"CMYK": saved("JPEG", "CMYK")}


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_has_the_pixels_that_pillow_decodes(name: str) -> None:
    assert np.array_equal(decode(JPEGS[name]).rgb, by_pillow(JPEGS[name]))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_has_the_pixels_that_pillow_decodes(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation

    picture = decode(saved("JPEG", exif=exif))

    upright = [None, None, 0, 3, 1, 5, 4, 6, 2][orientation]  # of Image.Transpose
    image = Image.open(io.BytesIO(saved("JPEG")))
    assert np.array_equal(picture.rgb, image if upright is None else image.transpose(Image.Transpose(upright)))


def test_inks_are_the_right_way_round() -> None:
    assert decode(saved("JPEG", "CMYK", np.full((8, 8, 3), 255, np.uint8))).rgb.min() >= 250


@pytest.mark.parametrize("name", JPEGS)
def test_a_jpeg_without_its_end_is_decoded(name: str) -> None:
    whole = decode(JPEGS[name])

    assert np.array_equal(decode(JPEGS[name][:-2]).rgb, whole.rgb)
    assert np.array_equal(decode(JPEGS[name][:-1]).rgb, whole.rgb)


@pytest.mark.parametrize(
    "end",
    [b"", EOI, bytes(20_000), b"\xff" * 2000],
    ids=["cut off", "with an end glued on", "zeros behind", "ones behind"],
)
@pytest.mark.parametrize("share", [0.5, 0.8, 0.99])
@pytest.mark.parametrize("name", ALL_JPEGS)
def test_a_jpeg_that_lacks_some_of_its_data_is_refused(name: str, share: float, end: bytes) -> None:
    data = ALL_JPEGS[name]

    with pytest.raises(ImageDecodeFailed, match="truncated"):
        decode(data[: int(len(data) * share)] + end)


def scans_of(data: bytes) -> list[int]:
    """Where the tables and scans of a progressive JPEG begin."""
    at, found = data.index(b"\xff\xda"), []
    while at >= 0:
        found.append(at)
        at = data.find(b"\xff\xda", at + 1)
    return found


def test_a_progressive_jpeg_that_ends_between_two_scans_is_refused() -> None:
    data = JPEGS["progressive"]
    for place in scans_of(data)[1:]:
        begin = data.rindex(b"\xff\xc4", 0, place)  # its tables
        for end in (b"", EOI):
            with pytest.raises(ImageDecodeFailed, match="the image is truncated"):
                decode(data[:begin] + end)


def test_the_beginning_of_a_progressive_jpeg_tells_its_size() -> None:
    data = JPEGS["progressive"]

    header = probe_beginning(data[: len(data) // 2], ImageBounds())

    assert header is not None
    assert (header.width, header.height) == (200, 120)
    assert not probe(data, ImageBounds()).is_partial


def with_other_scan_parameters(data: bytes) -> bytes:
    at = data.index(b"\xff\xda") + 5
    behind = at + 2 * data[at - 1]
    return data[:behind] + b"\0\0\0" + data[behind + 3 :]


ODD: dict[str, Callable[[bytes], bytes]] = {
    "bytes between segments": lambda data: data.replace(b"\xff\xdb", b"abc\xff\xdb", 1),
    "zeros behind the end": lambda data: data + bytes(2000),
    "bytes before the end": lambda data: data[:-2] + b"\0" * 40 + EOI,
    "scan parameters of a phone": with_other_scan_parameters,
    "another revision": lambda data: data.replace(b"JFIF\0\x01", b"JFIF\0\x03", 1),
    "bytes behind the end": lambda data: data + b"\0\xff\xd8\xff tail" * 9,
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_odd_in_a_jpeg_takes_no_pixel_and_hides_none_that_is_missing(name: str) -> None:
    data = JPEGS["4:2:0"]

    assert np.array_equal(decode(ODD[name](data)).rgb, decode(data).rgb)
    if "behind the end" not in name:
        with pytest.raises(ImageDecodeFailed, match="truncated"):
            decode(ODD[name](data[: len(data) // 2] + EOI))


def test_bytes_between_the_scans_of_a_jpeg_take_no_pixel() -> None:
    data = JPEGS["progressive"]
    at = data.rindex(b"\xff\xc4")

    assert np.array_equal(decode(data[:at] + b"\0" * 30 + data[at:]).rgb, decode(data).rgb)


SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


def png(rows: int, *, kind: int = 2, level: int = 7, height: int = 2000, interlace: int = 0) -> bytes:
    """A PNG of 20 columns that has these rows of its height, and ends as it should."""
    header = struct.pack(">IIBBBBB", 20, height, 8, kind, 0, 0, interlace)
    row = b"\0" + bytes([level]) * (20 * SAMPLES[kind])
    palette = chunk(b"PLTE", bytes(range(30))) if kind == 3 else b""
    pixels = chunk(b"IDAT", zlib.compress(row * rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + palette + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_png_with_three_of_two_thousand_rows_is_refused(kind: int) -> None:
    for rows in (0, 3, 1999):
        for level in (0, 7):
            with pytest.raises(ImageDecodeFailed):
                decode(png(rows, kind=kind, level=level))


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_png_that_ends_in_black_rows_or_has_more_than_its_height_is_decoded(kind: int) -> None:
    for rows in (2000, 2001):
        for level in (0, 7):
            assert decode(png(rows, kind=kind, level=level)).rgb.shape == (2000, 20, 3)


@pytest.mark.parametrize("height", [1, 2, 3, 9])
def test_the_passes_of_an_interlaced_png_are_counted(height: int) -> None:
    passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    rows = [
        b"\0" + bytes([9]) * 3 * len(range(x, 20, across))
        for x, y, across, down in passes
        for _ in range(y, height, down)
    ]

    def interlaced(these: list[bytes]) -> bytes:
        header = struct.pack(">IIBBBBB", 20, height, 8, 2, 0, 0, 1)
        pixels = chunk(b"IDAT", zlib.compress(b"".join(these)))
        return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")

    assert (decode(interlaced(rows)).rgb == 9).all()
    with pytest.raises(ImageDecodeFailed):
        decode(interlaced(rows[:-1]))


def test_a_png_without_its_last_chunk_is_decoded() -> None:
    data = saved("PNG")

    assert np.array_equal(decode(data[:-12]).rgb, NOISE)
    assert np.array_equal(decode(data[:-14]).rgb, NOISE)


def test_a_checksum_decides_where_pixels_need_the_chunk_and_nowhere_else() -> None:
    palette = Image.fromarray(NOISE).quantize(16)
    out = io.BytesIO()
    palette.save(out, "PNG", transparency=3)
    data = out.getvalue()

    for kind in (b"IHDR", b"PLTE", b"IDAT"):
        with pytest.raises(ImageDecodeFailed):
            decode(with_wrong_checksum(data, kind))
    assert decode(data).alpha is not None
    assert decode(with_wrong_checksum(data, b"tRNS")).alpha is None


def with_wrong_checksum(data: bytes, kind: bytes) -> bytes:
    at = data.index(kind) - 4
    behind = at + 12 + int.from_bytes(data[at : at + 4])
    return data[: behind - 1] + bytes([data[behind - 1] ^ 1]) + data[behind:]


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.97])
def test_a_webp_that_lacks_some_of_its_data_is_refused_whatever_its_lengths_say(share: float, lossless: bool) -> None:
    data = saved("WEBP", lossless=lossless)
    size = int((len(data) - 20) * share) // 2 * 2
    glued = b"WEBP" + data[12:16] + struct.pack("<I", size) + data[20 : 20 + size]

    for cut in (data[: 20 + size], b"RIFF" + struct.pack("<I", len(glued)) + glued):
        with pytest.raises(ImageDecodeFailed):
            decode(cut)


def test_a_webp_with_half_of_its_transparency_is_refused() -> None:
    image = Image.fromarray(NOISE)
    image.putalpha(Image.fromarray(NOISE[..., 0]))
    out = io.BytesIO()
    image.save(out, "WEBP", quality=80)
    data = out.getvalue()
    at, behind = data.index(b"ALPH"), data.index(b"VP8 ")
    size = int.from_bytes(data[at + 4 : at + 8], "little") // 4 * 2
    cut = data[8 : at + 4] + struct.pack("<I", size) + data[at + 8 : at + 8 + size] + data[behind:]

    with pytest.raises(ImageDecodeFailed):
        decode(b"RIFF" + struct.pack("<I", len(cut)) + cut)


LIKE_FILM: dict[str, bytes] = {
    "gif": saved("GIF", "P"),
    "gif, interlaced": saved("GIF", "P", interlace=1),
    "bmp": saved("BMP"),
    "tiff": saved("TIFF"),
    "tiff, packed": saved("TIFF", compression="tiff_lzw"),
    "avif": saved("AVIF", max_threads=1),
}


@pytest.mark.parametrize("share", [0.3, 0.7, 0.97])
@pytest.mark.parametrize("name", LIKE_FILM)
def test_other_formats_that_break_off_are_refused(name: str, share: float) -> None:
    data = LIKE_FILM[name]

    with pytest.raises(ImageDecodeFailed):
        decode(data[: int(len(data) * share)])


def gif(rows: int, *, interlaced: bool = False, level: int = 0) -> bytes:
    """A GIF of 4 x 40 pixels that has so many rows, and ends as it should."""
    clear, end = 4, 5
    codes = [code for _ in range(4 * rows) for code in (clear, level)] + [end]  # of 3 bits, all the time
    bits = "".join(f"{code:03b}"[::-1] for code in codes)
    packed = bytes(int(bits[at : at + 8][::-1], 2) for at in range(0, len(bits), 8))
    parts = b"".join(bytes([len(packed[at : at + 255])]) + packed[at : at + 255] for at in range(0, len(packed), 255))
    screen = b"GIF89a" + struct.pack("<HHBBB", 4, 40, 0x81, 0, 0) + bytes(range(12))
    return screen + b"," + struct.pack("<HHHHBB", 0, 0, 4, 40, 0x40 * interlaced, 2) + parts + b"\0;"


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("level", [0, 1])
def test_a_gif_with_three_of_its_rows_is_refused(level: int, interlaced: bool) -> None:
    assert (decode(gif(40, interlaced=interlaced, level=level)).rgb[..., 0] == 3 * level).all()
    for rows in (3, 39):
        with pytest.raises(ImageDecodeFailed, match="truncated"):
            decode(gif(rows, interlaced=interlaced, level=level))


def test_a_tiff_that_lacks_strips_is_refused() -> None:
    def tiff(strips: int) -> bytes:
        """Greys in four strips of 16 rows, of which these are there."""
        tags = [(256, 1, 16), (257, 1, 64), (258, 1, 8), (259, 1, 1), (262, 1, 1), (273, strips, 1200), (278, 1, 16)]
        tags.append((279, strips, 1300))
        entries = b"".join(struct.pack("<HHII", tag, 4, *more) for tag, *more in tags)
        head = b"II*\0" + struct.pack("<IH", 1032, 0).ljust(1028, b"\7") + struct.pack("<H", len(tags)) + entries
        offsets = struct.pack("<4I", *(8 + 256 * n for n in range(4)))
        return head.ljust(1200, b"\0") + offsets.ljust(100, b"\0") + struct.pack("<4I", *[256] * 4)

    assert decode(tiff(4)).rgb.shape == (64, 16, 3)
    with pytest.raises(ImageDecodeFailed, match="truncated"):
        decode(tiff(3))


# --- zeros in place of an end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [bytes(20_000), b"\xff" * 20_000], ids=["zeros", "ones"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_what_is_filled_in_behind_a_png_makes_no_rows(mode: str, end: bytes) -> None:
    data = saved("PNG", mode)
    for share in (0.3, 0.5, 0.9):
        with pytest.raises(ImageDecodeFailed):
            decode(data[: int(len(data) * share)] + end)


@pytest.mark.parametrize("missing", [1, 4, 8, 12, 13, 16])
def test_a_png_that_lacks_its_last_chunk_and_a_checksum_has_all_its_rows(missing: int) -> None:
    data = saved("PNG", "L")

    assert np.array_equal(decode(data[:-missing]).rgb, decode(data).rgb)


@pytest.mark.parametrize("form", ["WEBP", "AVIF"])
def test_a_webp_or_avif_with_zeros_in_place_of_its_end_is_refused(form: str) -> None:
    data = saved(form, **({"max_threads": 1} if form == "AVIF" else {}))
    half = data[: len(data) // 2]

    with pytest.raises(ImageDecodeFailed, match="truncated"):
        decode(half.ljust(len(data), b"\0"))


# --- taken as they are ------------------------------------------------------------------------------------------

PART = ImageBounds(takes_truncated=True)
ENDS = {"cut off": b"", "with an end glued on": EOI, "zeros behind": bytes(20_000)}


def rows_alike(some: np.ndarray, whole: np.ndarray) -> int:
    """How many rows from the top are the same."""
    same = (some == whole).reshape(len(whole), -1).all(axis=1)
    return int(same.argmin()) if not same.all() else len(same)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", ["4:2:0", "4:4:4", "grey", "restarts"])
def test_of_a_truncated_jpeg_what_is_there_is_taken_and_the_rest_is_grey(name: str, end: str) -> None:
    data, whole = JPEGS[name], decode(JPEGS[name])

    some = decode(data[: len(data) // 2] + ENDS[end], PART)

    assert some.notes == ("truncated",)
    assert some.grey == whole.grey
    assert 40 <= rows_alike(some.rgb, whole.rgb) <= 80
    assert (some.rgb[-8:] == 128).all()


def test_of_a_progressive_jpeg_the_scans_that_are_there_are_taken() -> None:
    data = saved("JPEG", pixels=NOISE[:8, :8].repeat(15, 0).repeat(25, 1), progressive=True)
    whole = decode(data)
    errors = []
    for place in scans_of(data)[1:]:
        begin = data.rindex(b"\xff\xc4", 0, place)
        some = decode(data[:begin] + EOI, PART)
        assert some.notes == ("truncated",)
        errors.append(np.abs(some.rgb.astype(int) - whole.rgb).mean())

    assert errors[0] > errors[-1]
    assert errors[-1] < 12


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_of_a_truncated_png_the_rows_that_are_there_are_taken(mode: str, end: str) -> None:
    data = saved("PNG", mode)
    whole = decode(data)

    some = decode(data[: len(data) // 2] + ENDS[end], PART)

    assert some.notes == ("truncated",)
    assert 30 <= rows_alike(some.rgb, whole.rgb) <= 90
    assert (some.rgb[-8:] == some.rgb[-1, -1]).all()
    assert some.alpha is None or not some.alpha[-8:].any()


def test_of_a_truncated_png_of_sixteen_bits_all_bits_are_taken() -> None:
    values = NOISE.astype(np.uint16) * 256 + NOISE[::-1]
    data = sixteen_bits_png(values, 16)

    some = decode(data[: len(data) // 2], PART, PixelForm(is_deep=True))

    assert some.notes == ("truncated",)
    assert 40 <= rows_alike(some.rgb, values) <= 80
    assert not some.rgb[-8:].any()


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_png_that_ends_too_early_as_it_should_is_taken_with_the_rows_it_has(kind: int) -> None:
    some = decode(png(3, kind=kind, height=20), PART)

    assert some.notes == ("truncated",)
    assert (some.rgb[:3] == some.rgb[0, 0]).all()
    assert (some.rgb[3:] == (0 if kind != 3 else [0, 1, 2])).all()


@pytest.mark.parametrize("name", [*ALL_JPEGS, "PNG", *LIKE_FILM])
def test_a_whole_image_is_the_same_where_truncated_ones_are_taken(name: str) -> None:
    data = (ALL_JPEGS | LIKE_FILM | {"PNG": saved("PNG")})[name]

    assert np.array_equal(decode(data, PART).rgb, decode(data).rgb)
    assert decode(data, PART).notes == decode(data).notes


@pytest.mark.parametrize("name", sorted({*LIKE_FILM, "webp"} - {"tiff, packed"}))  # its header is at its end
def test_of_other_formats_no_part_is_taken_and_the_error_says_so(name: str) -> None:
    data = (LIKE_FILM | {"webp": saved("WEBP")})[name]

    with pytest.raises(ImageDecodeFailed, match="only of a JPEG or PNG can a part be taken"):
        decode(data[: int(len(data) * 0.97)], PART)


def test_what_has_no_pixel_or_is_damaged_is_refused_although_truncated_ones_are_taken() -> None:
    whole = saved("PNG")
    no_pixel = [png(0), whole[: whole.index(b"IDAT") + 6], JPEGS["4:2:0"][: JPEGS["4:2:0"].index(b"\xff\xda")]]

    for data in (*no_pixel, with_wrong_checksum(whole, b"IDAT"), with_wrong_checksum(whole, b"IHDR")):
        with pytest.raises(ImageDecodeFailed):
            decode(data, PART)
