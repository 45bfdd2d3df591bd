"""Formats: what is taken, what of it is decoded, and what an error says of the rest."""

import io
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from penstock.errors import ImageAnimated, ImageDecodeFailed, UnsupportedImageFormat
from penstock.pixels.decoding import decode
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.picture import Picture
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


ANIMATIONS: dict[str, dict[str, object]] = {
    "PNG": {},
    "WEBP": {"lossless": True},
    "GIF": {},
    "AVIF": {"max_threads": 1},
}


@pytest.mark.parametrize("form", ANIMATIONS)
def test_an_animation_has_an_error_of_its_own(form: str) -> None:
    for look in (probe, decode):
        with pytest.raises(ImageAnimated, match="send one frame"):
            look(animated(form), ImageBounds(1))


@pytest.mark.parametrize("form", ANIMATIONS)
def test_of_an_animation_the_first_frame_is_decoded_where_that_is_set(form: str) -> None:
    first = saved(Image.fromarray(COLOURS), form, **ANIMATIONS[form])

    picture = decode(animated(form), FIRST_FRAME)

    assert np.abs(picture.rgb.astype(int) - decode(first).rgb).mean() < 3
    assert picture.notes == ("first_frame",)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_a_file_with_one_frame_is_no_animation(form: str) -> None:
    data = saved(Image.fromarray(COLOURS), form, save_all=True, **ANIMATIONS[form])

    assert np.array_equal(decode(data).rgb, COLOURS)


def test_a_photo_with_a_preview_behind_it_is_no_animation() -> None:
    data = saved(Image.fromarray(COLOURS), "MPO", save_all=True, append_images=[Image.fromarray(RAMP)])

    assert probe(data, ImageBounds(1)).format == "jpeg"
    assert decode(data).rgb.shape == COLOURS.shape


ALPHA = Image.fromarray(COLOURS)
ALPHA.putalpha(Image.fromarray(RAMP))
GREY = Image.fromarray(RAMP)
PALETTE = Image.fromarray(COLOURS).quantize(64)
PLAIN: dict[str, bytes] = {
    "bmp": saved(Image.fromarray(COLOURS), "BMP"),
    "bmp, grey": saved(GREY, "BMP"),
    "bmp, palette": saved(PALETTE, "BMP"),
    "bmp, one bit": saved(GREY.convert("1"), "BMP"),
    "gif": saved(PALETTE, "GIF"),
    "gif, interlaced": saved(PALETTE, "GIF", interlace=1),
    "gif, transparent": saved(PALETTE, "GIF", transparency=5),
    **{
        f"tiff, {way}": saved(Image.fromarray(COLOURS), "TIFF", compression=way)
        for way in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits")
    },
    "tiff, big-endian": saved(Image.fromarray(COLOURS), "TIFF", big_endian=True),
    "tiff, grey": saved(GREY, "TIFF", compression="tiff_lzw"),
    "tiff, alpha": saved(ALPHA, "TIFF"),
    "tiff, palette": saved(PALETTE, "TIFF"),
    "tiff, fax": saved(GREY.convert("1"), "TIFF", compression="group4"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_every_format_comes_out_as_it_went_in(name: str) -> None:
    with Image.open(io.BytesIO(PLAIN[name])) as image:
        pixels = np.asarray(image.convert("RGBA"))

    picture = decode(PLAIN[name], ImageBounds(1))

    assert np.array_equal(picture.rgb, pixels[..., :3])
    assert (picture.alpha is not None) == (not (pixels[..., 3] == 255).all())
    assert picture.alpha is None or np.array_equal(picture.alpha, pixels[..., 3])
    assert probe(PLAIN[name], ImageBounds(1)).format == name.partition(",")[0]


@pytest.mark.parametrize("is_opaque", [True, False])
def test_a_bmp_whose_alpha_is_nowhere_more_than_0_is_opaque(is_opaque: bool) -> None:
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    info = struct.pack("<IiiHHIIiiII", 108, 64, 32, 1, 32, 3, 0, 2835, 2835, 0, 0) + masks
    alpha = np.zeros_like(RAMP) if is_opaque else RAMP
    rows = np.dstack([COLOURS[::-1, :, ::-1], alpha[::-1]]).tobytes()
    data = b"BM" + struct.pack("<IHHI", 14 + 108 + len(rows), 0, 0, 14 + 108) + info.ljust(108, b"\0") + rows

    picture = decode(data, ImageBounds(1))

    assert np.array_equal(picture.rgb, COLOURS)
    assert (picture.alpha is None) == is_opaque
    assert picture.alpha is None or np.array_equal(picture.alpha, RAMP)


def test_around_a_smaller_frame_of_a_gif_nothing_is_seen() -> None:
    data = bytearray(saved(Image.fromarray(COLOURS).quantize(16), "GIF"))
    whole = decode(bytes(data)).rgb
    struct.pack_into("<HH", data, 6, 70, 40)  # of the screen
    at = data.index(b",", 13 + 3 * 16)
    assert struct.unpack_from("<HHHH", data, at + 1) == (0, 0, 64, 32)
    struct.pack_into("<HH", data, at + 1, 4, 6)

    picture = decode(bytes(data))

    seen = np.zeros((40, 70), bool)
    seen[6:38, 4:68] = True
    assert picture.alpha is not None
    assert np.array_equal(picture.alpha, np.where(seen, 255, 0))
    assert np.array_equal(picture.rgb[seen].reshape(32, 64, 3), whole)
    assert probe(bytes(data), ImageBounds(1)).has_alpha


def test_an_avif_is_decoded_with_its_transparency() -> None:
    picture = decode(saved(ALPHA, "AVIF", quality=95, max_threads=1), ImageBounds(1))

    assert picture.alpha is not None
    assert np.abs(picture.rgb.astype(int) - COLOURS).mean() < 4
    assert np.abs(picture.alpha.astype(int) - RAMP).mean() < 4


def test_an_avif_that_calls_itself_a_container_of_images_is_one() -> None:
    data = saved(Image.fromarray(COLOURS), "AVIF", max_threads=1)
    (size,) = struct.unpack_from(">I", data)
    contained = data.replace(b"ftypavif", b"ftypmif1", 1)
    assert b"avif" in contained[16:size]

    assert np.array_equal(decode(contained).rgb, decode(data).rgb)


def test_an_avif_of_a_wide_gamut_or_a_high_range_is_converted() -> None:
    data = saved(Image.fromarray(COLOURS), "AVIF", quality=95, max_threads=1)
    at = data.index(b"nclx") + 4
    primaries, transfer = struct.unpack_from(">HH", data, at)
    assert (primaries, transfer) == (1, 13)

    def marked(primaries: int, transfer: int) -> Picture:
        return decode(data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :])

    plain, wide, high = marked(1, 13), marked(12, 13), marked(9, 16)

    assert plain.notes == ()
    assert wide.notes == high.notes == ("profile_converted",)
    for picture in (wide, high):
        assert np.abs(picture.rgb.astype(int) - plain.rgb).max() > 10


@pytest.mark.parametrize("form", ["TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_tiff_or_avif_is_upright(form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options: dict[str, object] = {"max_threads": 1, "quality": 95} if form == "AVIF" else {}
    upright = [None, None, 0, 3, 1, 5, 4, 6, 2][orientation]  # of Image.Transpose
    image = Image.fromarray(COLOURS)
    wanted = np.asarray(image if upright is None else image.transpose(Image.Transpose(upright)))

    picture = decode(saved(image, form, exif=exif, **options))

    assert picture.rgb.shape == wanted.shape
    assert np.abs(picture.rgb.astype(int) - wanted).mean() < 4
    assert ("turned" in picture.notes) == (orientation > 1)


def test_of_several_pages_the_first_is_decoded_and_noted() -> None:
    pages = saved(Image.fromarray(COLOURS), "TIFF", save_all=True, append_images=[GREY])

    picture = decode(pages, ImageBounds(1))

    assert np.array_equal(picture.rgb, COLOURS)
    assert picture.notes == ("first_frame",)


def test_sixteen_bits_of_a_tiff_are_scaled() -> None:
    deep = Image.fromarray(RAMP.astype(np.uint16) * 257)

    picture = decode(saved(deep, "TIFF", compression="tiff_lzw"), ImageBounds(1))

    assert picture.grey
    assert np.array_equal(picture.rgb[..., 0], RAMP)


@pytest.mark.parametrize("mode", ["F", "I"])
def test_values_that_are_no_levels_are_refused_by_name(mode: str) -> None:
    with pytest.raises(ImageDecodeFailed, match="unusual way; save it anew"):
        decode(saved(GREY.convert(mode), "TIFF"), ImageBounds(1))


def tiff(*further: tuple[int, int, int, int]) -> bytes:
    """Greys of 16 x 16 pixels; `further` are entries: a tag, its type, how many numbers, and where they are."""
    usual = {256: 16, 257: 16, 258: 8, 259: 1, 262: 1, 273: 8, 278: 16, 279: 256}
    entries = [(tag, 4, 1, value) for tag, value in usual.items()] + list(further)
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    return (
        b"II*\0" + struct.pack("<I", 264) + bytes(range(256)) + struct.pack("<H", len(entries)) + directory + bytes(4)
    )


@pytest.mark.parametrize("tag", [270, 282, 306, 700, 33723, 34377, 34665, 34675, 34853])
def test_an_entry_of_a_tiff_that_leads_nowhere_does_not_decide(tag: int) -> None:
    picture = decode(tiff((tag, 7, 500, 999_999)), ImageBounds(1))

    assert np.array_equal(picture.rgb, decode(tiff()).rgb)
    assert picture.notes == {282: (), 34675: ("profile_ignored",)}.get(tag, ("metadata_stripped",))


def greys(samples: np.ndarray, bits: int, *further: tuple[int, int, int, int], photometric: int = 1) -> bytes:
    """A TIFF of one row of these samples, (columns, channels), from a row of bits."""
    columns, channels = samples.shape
    row = b"".join(bits_of(samples.reshape(-1), bits))
    entries = [(256, 3, 1, columns), (257, 3, 1, 1), (259, 3, 1, 1), (262, 3, 1, photometric), (273, 4, 1, 8)]
    entries += [
        (277, 3, 1, channels),
        (278, 3, 1, 1),
        (279, 4, 1, len(row)),
        (258, 3, channels, bits * 65_537),
        *further,
    ]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in sorted(entries))
    at = 8 + len(row) + len(row) % 2
    head = b"II*\0" + struct.pack("<I", at) + row
    return head.ljust(at, b"\0") + struct.pack("<H", len(entries)) + directory + bytes(4)


def bits_of(samples: np.ndarray, bits: int) -> Iterator[bytes]:
    if bits == 16:
        yield samples.astype("<u2").tobytes()
        return
    text = "".join(f"{sample:0{bits}b}" for sample in samples)
    yield int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8))


@pytest.mark.parametrize("photometric", [0, 1])
@pytest.mark.parametrize("bits", [1, 2, 4, 8, 12, 16])
def test_greys_of_a_tiff_have_all_their_levels_also_where_zero_is_white(bits: int, photometric: int) -> None:
    most = 2**bits - 1
    levels = np.array([0, most, most // 2, most // 3, most, 0, most, 0])
    data = greys(levels[:, None], bits, photometric=photometric)
    if (bits, photometric) == (12, 0):
        with pytest.raises(ImageDecodeFailed, match="the image holds its pixels in an unusual way; save it anew"):
            decode(data, ImageBounds(1))
        return

    picture = decode(data, ImageBounds(1))

    share = levels / most if photometric else 1 - levels / most
    assert picture.grey
    assert np.abs(picture.rgb[0, :, 0] - 255 * share).max() <= 1


def test_greys_that_are_multiplied_by_their_alpha_are_divided_by_it() -> None:
    samples = np.array([[50, 100], [0, 0], [100, 100], [30, 255]])

    apart, multiplied = (decode(greys(samples, 8, (338, 3, 1, kind)), ImageBounds(1)) for kind in (2, 1))

    assert apart.alpha is not None
    assert multiplied.alpha is not None
    assert apart.alpha.tolist() == multiplied.alpha.tolist() == [[100, 0, 100, 255]]
    assert apart.rgb[0, :, 0].tolist() == [50, 0, 100, 30]
    assert np.abs(multiplied.rgb[0, :, 0].astype(int) - [127, 0, 255, 30]).max() <= 1
    assert apart.grey
    assert multiplied.grey


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

    assert f"the input is {what}" in refused.value.detail
    for taken in ("PNG", "JPEG", "WebP", "AVIF", "TIFF", "GIF", "BMP"):
        assert taken in refused.value.detail
