"""Every format with every kind of image and every option: what the file says, and what its pixels are."""

import io
import re
from typing import Any, get_args

import numpy as np
import pytest
from PIL import Image

from penstock.cli.written import OPTIONS
from penstock.client import Output
from penstock.core.output import Format, OutputOptions, refusal
from penstock.errors import ImageTooLarge, InvalidRequest, OutputTooLarge
from penstock.intake.requests import OutputRequest
from penstock.pixels.encoding import encode
from penstock.pixels.formats import CONTENT_TYPES, check_holds, check_options, for_source
from penstock.pixels.picture import Picture

FORMATS = [form for form in get_args(Format) if form != "source"]
LOSSLESS = [("png", {}), ("tiff", {}), ("webp", {"lossless": True})]
LOSSY = ["jpeg", "webp", "avif"]

ROWS, COLUMNS = np.mgrid[:40, :56]
RAMP = (ROWS * 4 + COLUMNS).astype(np.uint8)
COLOURS = np.dstack([RAMP, 255 - RAMP, ROWS * 6]).astype(np.uint8)
OPACITY = np.where(COLUMNS < 28, 255, np.where(COLUMNS < 42, 128, 0)).astype(np.uint8)
NOISE = np.random.default_rng(5).integers(0, 256, (96, 128, 3), np.uint8)

MODES = {"L": (True, False), "LA": (True, True), "RGB": (False, False), "RGBA": (False, True)}


def picture(mode: str) -> Picture:
    is_grey, has_alpha = MODES[mode]
    rgb = np.repeat(RAMP[..., None], 3, axis=2) if is_grey else COLOURS
    return Picture(rgb, OPACITY if has_alpha else None, is_grey)


def read(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def opaque(mode: str, background: tuple[int, int, int]) -> np.ndarray[Any, Any]:
    """The colours of a picture over a background, computed another way than the encoders do."""
    made = picture(mode)
    if made.alpha is None:
        return made.rgb.astype(float)
    share = made.alpha[..., None] / 255
    return np.asarray(made.rgb * share + np.array(background) * (1 - share))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_holds_every_kind_of_image(form: Format, mode: str) -> None:
    made = picture(mode)

    image = read(encode(made, OutputOptions(format=form, quality=95)))

    assert Image.MIME[image.format or ""] == CONTENT_TYPES[form]
    assert image.size == (56, 40)
    assert ("A" in image.mode) == (made.alpha is not None and form != "jpeg")
    assert not image.info.get("exif")
    assert not image.info.get("icc_profile")
    shown = np.asarray(image.convert("RGBA"), float)
    if form == "jpeg":
        assert np.abs(shown[..., :3] - opaque(mode, (255, 255, 255))).mean() < 3
    elif made.alpha is not None:
        assert np.abs(shown[..., 3] - made.alpha).mean() < 3
    seen = shown[:, :28, :3] - made.rgb[:, :28]
    assert np.abs(seen).mean() < 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("form", "options"), LOSSLESS)
def test_a_lossless_file_has_every_pixel_of_every_kind(form: Format, options: dict[str, Any], mode: str) -> None:
    made = picture(mode)

    image = read(encode(made, OutputOptions(format=form, **options)))

    again = np.asarray(image.convert("RGBA"))
    assert np.array_equal(again[..., :3], made.rgb)
    assert np.array_equal(again[..., 3], np.full_like(RAMP, 255) if made.alpha is None else made.alpha)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("background", ["#fff", "#204080", "#808080"])
@pytest.mark.parametrize("form", FORMATS)
def test_a_background_lies_under_what_is_transparent(form: Format, background: str, mode: str) -> None:
    image = read(encode(picture(mode), OutputOptions(format=form, quality=98, background=background)))

    digits = background[1:] if len(background) == 7 else "".join(2 * digit for digit in background[1:])
    wanted = opaque(mode, (int(digits[:2], 16), int(digits[2:4], 16), int(digits[4:], 16)))
    assert "A" not in image.mode
    off = np.abs(np.asarray(image.convert("RGB"), float) - wanted)
    assert off.mean() < (1 if form in ("png", "tiff") else 4)
    assert off[4:-4, 46:-4].max() < 24


@pytest.mark.parametrize("form", ["png", "jpeg", "tiff"])
def test_a_file_names_its_pixels_per_inch(form: Format) -> None:
    image = read(encode(picture("RGB"), OutputOptions(format=form, dpi=300)))

    assert image.info["dpi"] == pytest.approx((300, 300), abs=0.01)


@pytest.mark.parametrize("form", LOSSY)
def test_less_quality_makes_a_smaller_file(form: Format) -> None:
    sizes = [len(encode(Picture(NOISE), OutputOptions(format=form, quality=quality))) for quality in (95, 60, 20)]

    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 2 * sizes[2]


@pytest.mark.parametrize("form", ["jpeg", "avif"])
def test_fewer_colours_make_a_smaller_file_and_444_is_usual(form: Format) -> None:
    by_chroma = {
        chroma: encode(Picture(NOISE), OutputOptions(format=form, chroma=chroma)) for chroma in ("444", "422", "420")
    }

    sizes = [len(data) for data in by_chroma.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert by_chroma["444"] == encode(Picture(NOISE), OutputOptions(format=form))


def test_a_jpeg_has_the_sampling_that_is_asked_for() -> None:
    steps = {"444": b"\x11", "422": b"\x21", "420": b"\x22"}

    for chroma, step in steps.items():
        data = encode(picture("RGB"), OutputOptions(format="jpeg", chroma=chroma))  # type: ignore[arg-type]
        frame = data.index(b"\xff\xc0")
        assert data[frame + 11 : frame + 12] == step


@pytest.mark.parametrize("form", LOSSY)
def test_the_best_quality_within_so_many_bytes_is_found(form: Format) -> None:
    made, best = Picture(NOISE), 95
    limit = len(encode(made, OutputOptions(format=form, quality=70)))

    data = encode(made, OutputOptions(format=form, quality=best, max_bytes=limit))

    assert len(data) <= limit
    above = [q for q in range(1, best + 1) if len(encode(made, OutputOptions(format=form, quality=q))) <= limit]
    assert data == encode(made, OutputOptions(format=form, quality=above[-1]))


@pytest.mark.parametrize("form", LOSSY)
def test_a_file_that_is_small_enough_at_once_is_what_it_is_without_a_limit(form: Format) -> None:
    made = picture("RGB")

    assert encode(made, OutputOptions(format=form, max_bytes=10**6)) == encode(made, OutputOptions(format=form))


@pytest.mark.parametrize("form", LOSSY)
def test_a_limit_that_no_quality_meets_is_refused_with_the_smallest_size(form: Format) -> None:
    at_worst = len(encode(Picture(NOISE), OutputOptions(format=form, quality=1)))

    with pytest.raises(OutputTooLarge) as refused:
        encode(Picture(NOISE), OutputOptions(format=form, max_bytes=100))
    said = re.fullmatch(r".* the smallest file has (\d+) bytes, max_bytes is 100", refused.value.detail)
    assert said
    assert 0.9 * at_worst <= int(said[1]) <= at_worst
    assert refused.value.param == "output.max_bytes"


CANNOT: dict[str, tuple[OutputOptions, str]] = {
    "a lossless jpeg": (OutputOptions(format="jpeg", lossless=True), "lossless"),
    "a lossless avif": (OutputOptions(format="avif", lossless=True), "lossless"),
    "a small png": (OutputOptions(max_bytes=1000), "max_bytes"),
    "a small tiff": (OutputOptions(format="tiff", max_bytes=1000), "max_bytes"),
    "a small file without loss": (OutputOptions(format="webp", lossless=True, max_bytes=1000), "max_bytes"),
    "few colours in a png": (OutputOptions(chroma="420"), "chroma"),
    "few colours in a tiff": (OutputOptions(format="tiff", chroma="444"), "chroma"),
    "all colours in a webp": (OutputOptions(format="webp", chroma="444"), "chroma"),
    "few colours without loss": (OutputOptions(format="webp", lossless=True, chroma="420"), "chroma"),
    "dpi in a webp": (OutputOptions(format="webp", dpi=72), "dpi"),
    "dpi in an avif": (OutputOptions(format="avif", dpi=72), "dpi"),
    "a place in a tiff": (OutputOptions(format="tiff", metadata="keep", keep_location=True), "keep_location"),
    "a place without metadata": (OutputOptions(keep_location=True), "keep_location"),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_a_format_cannot_do_is_refused_by_name(case: str) -> None:
    options, member = CANNOT[case]

    with pytest.raises(InvalidRequest) as refused:
        check_options(options)
    assert refused.value.param == f"output.{member}"


def test_a_webp_may_be_asked_for_the_chroma_that_it_has() -> None:
    assert refusal(OutputOptions(format="webp", chroma="420")) is None


@pytest.mark.parametrize(
    ("source", "written"),
    [("jpeg", "jpeg"), ("webp", "webp"), ("avif", "avif"), ("tiff", "tiff"), ("heic", "jpeg"), ("gif", "png"),
     ("bmp", "png"), (None, "png")],
)  # fmt: skip
def test_the_format_of_the_source_is_that_of_the_input_where_it_can_be_written(
    source: str | None, written: Format
) -> None:
    assert for_source(OutputOptions(format="source", quality=70), source) == OutputOptions(format=written, quality=70)


def test_what_the_format_of_the_source_cannot_do_is_refused_when_it_is_known() -> None:
    options = OutputOptions(format="source", dpi=300)
    check_options(options)

    with pytest.raises(InvalidRequest, match="webp has no place for it; ask for png, jpeg or tiff"):
        for_source(options, "webp")


def test_record_request_client_and_command_have_the_same_options() -> None:
    members = set(OutputOptions.__struct_fields__)

    assert members - {"exif"} == set(OutputRequest.__struct_fields__) == set(Output.__annotations__) == set(OPTIONS)


@pytest.mark.parametrize(
    ("form", "width", "height"),
    [("webp", 16_384, 1), ("jpeg", 1, 65_501), ("avif", 32_769, 1), ("avif", 20_000, 20_000)],
)
def test_an_image_that_a_format_cannot_hold_is_refused(form: Format, width: int, height: int) -> None:
    check_holds(OutputOptions(), width, height)
    check_holds(OutputOptions(format="tiff"), width, height)

    with pytest.raises(ImageTooLarge, match="ask for png") as refused:
        check_holds(OutputOptions(format=form), width, height)
    assert refused.value.param == "output.format"
