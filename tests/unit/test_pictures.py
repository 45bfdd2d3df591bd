"""Every kind of image that people send, and those that they should not."""

import io
import struct
import zlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from PIL import Image, ImageCms

from penstock.core.request import Format, OutputOptions
from penstock.errors import ImageDecodeFailed, ImageTooLarge, PenstockError, UnsupportedImageFormat
from penstock.pixels.canvas import Canvas
from penstock.pixels.decoding import decode
from penstock.pixels.encoding import check_holds, encode
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.picture import Picture, Pixels, on_white
from penstock.pixels.pillow import keep_memory

RAMP = np.linspace(0, 255, 64, dtype=np.uint8)[None, :].repeat(32, axis=0)
COLOURS = np.dstack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 90)])


def saved(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, format, **options)
    return out.getvalue()


def decoded(data: bytes) -> Picture:
    return decode(data, ImageBounds(1))


def test_a_colour_image_comes_out_as_it_went_in() -> None:
    picture = decoded(saved(Image.fromarray(COLOURS)))

    assert np.array_equal(picture.rgb, COLOURS)
    assert picture.alpha is None
    assert not picture.grey


@pytest.mark.parametrize("mode", ["L", "1"])
def test_a_grey_image_is_known_as_grey(mode: str) -> None:
    picture = decoded(saved(Image.fromarray(RAMP).convert(mode)))

    assert picture.grey
    assert picture.rgb.shape == (32, 64, 3)


def test_sixteen_bits_of_grey_are_scaled_not_clipped() -> None:
    deep = np.linspace(0, 65535, 64, dtype=np.uint16)[None, :].repeat(32, axis=0)

    picture = decoded(saved(Image.fromarray(deep)))

    assert picture.grey
    assert np.abs(picture.rgb[0, :, 0].astype(int) - RAMP[0]).max() <= 1


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_kept_apart(mode: str) -> None:
    image = Image.fromarray(COLOURS if mode == "RGBA" else RAMP)
    image.putalpha(Image.fromarray(RAMP))

    picture = decoded(saved(image))

    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, RAMP)
    assert picture.grey == (mode == "LA")


def test_a_palette_with_a_transparent_colour_has_alpha() -> None:
    image = Image.fromarray(COLOURS).quantize(8)

    picture = decoded(saved(image, transparency=0))

    assert picture.alpha is not None
    assert set(np.unique(picture.alpha)) == {0, 255}


def test_an_upright_image_is_made_of_a_turned_one() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated by 90 degrees

    picture = decoded(saved(Image.fromarray(COLOURS), "JPEG", exif=exif))

    assert picture.rgb.shape == (64, 32, 3)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0" + bytes(30), b"Exif\0\0II*\0\xff\xff\0\0", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"]
)
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP"])
def test_exif_that_cannot_be_read_does_not_decide(format: str, exif: bytes) -> None:
    data = saved(Image.fromarray(COLOURS), format, exif=exif)

    assert decoded(data).rgb.shape == COLOURS.shape


def test_cmyk_becomes_rgb() -> None:
    picture = decoded(saved(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG"))

    assert picture.rgb.min() >= 250


def test_an_embedded_profile_is_applied() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    same = decoded(saved(Image.fromarray(COLOURS), icc_profile=lab))
    broken = decoded(saved(Image.fromarray(COLOURS), icc_profile=b"no profile"))

    assert np.abs(same.rgb.astype(int) - COLOURS).max() <= 1
    assert np.array_equal(broken.rgb, COLOURS)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("alpha", [False, True])
@pytest.mark.parametrize("grey", [False, True])
def test_every_form_can_be_written_in_every_format(format: str, alpha: bool, grey: bool) -> None:
    rgb = np.repeat(RAMP[..., None], 3, axis=2) if grey else COLOURS
    picture = Picture(rgb, RAMP if alpha else None, grey)

    data = encode(picture, OutputOptions(format=format, quality=95))

    again = decoded(data)
    assert again.rgb.shape == rgb.shape
    assert (again.alpha is not None) == (alpha and format != "jpeg")
    if format == "png":
        assert again.grey == grey
        assert np.array_equal(again.rgb, rgb)


@pytest.mark.parametrize("alpha", [False, True])
def test_a_lossless_webp_keeps_every_pixel_also_the_transparent_ones(alpha: bool) -> None:
    picture = Picture(COLOURS, RAMP if alpha else None)

    again = decoded(encode(picture, OutputOptions(format="webp", lossless=True)))

    assert np.array_equal(again.rgb, COLOURS)
    assert not alpha or (again.alpha == RAMP).all()


def test_transparency_becomes_white_where_the_format_has_none() -> None:
    picture = Picture(np.zeros((8, 8, 3), np.uint8), np.zeros((8, 8), np.uint8))

    again = decoded(encode(picture, OutputOptions(format="jpeg")))

    assert again.rgb.min() >= 250


def test_up4_no_metadata_survives() -> None:
    exif = Image.Exif()
    exif[0x010E] = "taken at home"
    data = saved(Image.fromarray(COLOURS), "JPEG", exif=exif, comment=b"secret")

    again = Image.open(io.BytesIO(encode(decoded(data), OutputOptions())))

    assert not again.getexif()
    assert not {"comment", "icc_profile", "xmp"} & set(again.info)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def with_chunk(data: bytes, inserted: bytes) -> bytes:
    """A PNG with one more chunk behind its header."""
    return data[:33] + inserted + data[33:]


TWO_MB = zlib.compress(bytes(2_000_000))


@pytest.mark.parametrize(
    "inserted",
    [
        chunk(b"zTXt", b"comment\0\0" + TWO_MB),
        chunk(b"iTXt", b"comment\0\x01\0\0\0" + TWO_MB),
        chunk(b"iCCP", b"profile\0\0" + TWO_MB),
        chunk(b"tEXt", b"comment\0of a client")[:-4] + b"\0\0\0\0",
    ],
    ids=["long text", "long international text", "long profile", "text with a wrong checksum"],
)
def test_metadata_that_nobody_needs_does_not_decide(inserted: bytes) -> None:
    png = with_chunk(saved(Image.fromarray(COLOURS)), inserted)

    assert np.array_equal(decoded(png).rgb, COLOURS)


@pytest.mark.parametrize(
    "inserted",
    [
        chunk(b"iCCP", b"profile\0\x07" + TWO_MB),
        chunk(b"iCCP", b""),
        chunk(b"tRNS", b"\0"),
        chunk(b"tRNS", bytes(300)),
        chunk(b"eXIf", b"junk"),
        chunk(b"cICP", b"\xff" * 4),
        chunk(b"cHRM", bytes(32)),
        chunk(b"pHYs", b"\0"),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_a_chunk_of_a_wrong_form_is_left_out(mode: str, inserted: bytes) -> None:
    png = saved(Image.fromarray(COLOURS).convert(mode))
    at = png.index(b"IDAT") - 4

    assert np.array_equal(decoded(png[:at] + inserted + png[at:]).rgb, decoded(png).rgb)


@pytest.mark.parametrize(
    ("marker", "body"),
    [
        (0xE0, b"JFIF\0"),
        (0xE1, b"http://ns.adobe.com/xap/1.0/\0\xff\xfe"),
        (0xE2, b"ICC_PROFILE\0\x05\x02" + bytes(30)),
        (0xE2, b"ICC_PROFILE\0"),
        (0xE2, b"MPF\0MM\0*\0\0\0\x08\0\x05" + b"\xff" * 40),
        (0xED, b"Photoshop 3.0\x008BIM\x04\x04" + b"\xff" * 20),
        (0xEE, b"Adobe"),
        (0xFE, b"\xff\xfe"),
    ],
)
def test_a_segment_of_a_wrong_form_is_left_out(marker: int, body: bytes) -> None:
    data = saved(Image.fromarray(COLOURS), "JPEG")
    segment = struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body

    assert np.array_equal(decoded(data[:2] + segment + data[2:]).rgb, decoded(data).rgb)


def test_a_wrong_checksum_of_what_makes_the_pixels_is_an_error() -> None:
    png = saved(Image.fromarray(COLOURS).quantize(8))
    at = png.index(b"PLTE") + 4 + 3 * 8

    with pytest.raises(ImageDecodeFailed):
        decoded(png[:at] + b"\0\0\0\0" + png[at + 4 :])


def test_profile_orientation_and_transparency_of_a_png_are_used() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = saved(Image.fromarray(COLOURS).quantize(8), transparency=0, exif=exif, icc_profile=profile)

    picture = decoded(with_chunk(data, chunk(b"tEXt", b"a\0b")))

    assert picture.rgb.shape == (64, 32, 3)
    assert picture.alpha is not None


def test_a_photo_of_a_phone_with_a_preview_behind_it_is_decoded() -> None:
    preview = Image.fromarray(COLOURS[::2, ::2])

    picture = decoded(saved(Image.fromarray(COLOURS), "MPO", save_all=True, append_images=[preview], quality=95))

    assert np.abs(picture.rgb.astype(int) - COLOURS).mean() < 4


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few KiB that claims, and unpacks to, width x height."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1024), 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("act", [probe, decode])
def test_a_bomb_is_refused_by_its_header(act: object) -> None:
    with pytest.raises(ImageTooLarge, match="limit is 50 MP"):
        act(bomb(14_000, 14_000), ImageBounds(50))


@pytest.mark.parametrize("format", ["ICO", "PPM", "PDF", "JPEG2000", "TGA", "PCX"])
def test_up2_other_formats_are_refused(format: str) -> None:
    with pytest.raises(UnsupportedImageFormat):
        decoded(saved(Image.fromarray(COLOURS), format))


@pytest.mark.parametrize("data", [b"", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe-3.0 EPSF"])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(UnsupportedImageFormat):
        decoded(data)


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP"])
def test_a_truncated_image_is_refused(format: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    data = saved(Image.fromarray(noise), format)

    with pytest.raises(ImageDecodeFailed):
        decoded(data[: len(data) // 2])


def test_damaged_bytes_never_give_anything_but_a_code() -> None:
    random = np.random.default_rng(7)
    originals = [saved(Image.fromarray(COLOURS), format) for format in ("PNG", "JPEG", "WEBP")]

    for round_ in range(600):
        data = bytearray(originals[round_ % 3])
        for place in random.integers(0, len(data), 5):
            data[place] = random.integers(0, 256)
        try:
            decoded(bytes(data))
        except PenstockError as error:
            assert error.status in (413, 415, 422)  # noqa: PT017


def test_what_shows_through_is_white() -> None:
    picture = Picture(np.zeros((1, 3, 3), np.uint8), np.array([[0, 128, 255]], np.uint8))

    assert on_white(picture)[0, :, 0].tolist() == [255, 127, 0]


@pytest.mark.parametrize("form", [np.ascontiguousarray, np.asfortranarray, lambda a: a[:, ::-1], lambda a: a[::-1]])
def test_a_canvas_takes_pixels_however_they_lie_in_memory(form: Callable[[Pixels], Pixels]) -> None:
    pixels = form(np.random.default_rng(5).integers(0, 256, (30, 20, 3), dtype=np.uint8))
    canvas = Canvas(40, 50)

    for view in (pixels, pixels[3:9, 2:5], pixels[::2, :1]):
        canvas.put(7, 11, view)

        assert (canvas.pixels[11 : 11 + len(view), 7 : 7 + view.shape[1]] == view).all()


@pytest.mark.parametrize(("left", "top"), [(-1, 0), (0, -1), (3, 0), (0, 3)])
def test_a_canvas_refuses_what_is_not_inside_of_it(left: int, top: int) -> None:
    with pytest.raises(ValueError, match="outside"):
        Canvas(4, 4).put(left, top, np.zeros((2, 2, 3), np.uint8))


def test_a_canvas_is_written_in_pieces_and_encoded_as_the_whole_would_be() -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    alpha = np.random.default_rng(4).integers(0, 256, (40, 60), dtype=np.uint8)
    canvas = Canvas(60, 40)
    for top, left in ((0, 0), (0, 25), (13, 0), (13, 25)):
        canvas.put(left, top, rgb[top : top + 27, left : left + 35])

    assert canvas.size == (60, 40)
    assert (canvas.pixels == rgb).all()
    assert canvas.encode(OutputOptions(), alpha=alpha) == encode(Picture(rgb, alpha), OutputOptions())


@pytest.mark.parametrize(("form", "side"), [("webp", 16_384), ("jpeg", 65_501)])
def test_a_side_that_a_format_cannot_hold_is_refused_before_it_is_drawn(form: Format, side: int) -> None:
    check_holds(OutputOptions(format=form), side - 1, 1)
    check_holds(OutputOptions(format="png"), side, 1)

    with pytest.raises(ImageTooLarge, match=f"{side}x1"):
        check_holds(OutputOptions(format=form), side, 1)


@pytest.fixture
def kept_blocks() -> Iterator[int]:
    """The number of blocks that are kept."""
    keep_memory(4 * Image.core.get_block_size())
    Image.core.reset_stats()
    yield 4
    keep_memory(0)


def test_a_canvas_in_kept_memory_takes_no_new_pages_and_has_no_old_pixels(kept_blocks: int) -> None:
    side = 2000
    canvas = Canvas(side, side)
    canvas.put(0, 0, np.full((side, side, 3), 200, np.uint8))
    allocated = Image.core.get_stats()["allocated_blocks"]
    del canvas

    assert not Canvas(side, side).pixels.any()
    assert Image.core.get_stats()["reused_blocks"] > 0
    assert Image.core.get_stats()["allocated_blocks"] == allocated


def test_kept_memory_is_bounded(kept_blocks: int) -> None:
    canvases = [Canvas(4000, 4000) for _ in range(3)]  # 4 blocks each
    for canvas in canvases:
        canvas.put(0, 0, np.zeros((1, 1, 3), np.uint8))
    del canvas
    canvases.clear()

    assert Image.core.get_stats()["blocks_cached"] == kept_blocks
    keep_memory(0)
    assert Image.core.get_stats()["blocks_cached"] == 0
