"""The formats that results are written in: their media types, and what a file of each can hold."""

from msgspec.structs import replace

from penstock.core.output import SOURCE_FORMATS, Format, OutputOptions, refusal
from penstock.errors import ImageTooLarge, InvalidRequest
from penstock.settings import LimitSettings

CONTENT_TYPES: dict[Format, str] = {
    "png": "image/png",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "avif": "image/avif",
    "tiff": "image/tiff",
}
MAX_SIDES: dict[Format, int] = {"webp": 16_383, "jpeg": 65_500, "avif": 32_768}
"""The longest side that a file can have: 14 bits in WebP (RFC 9649), in JPEG what libjpeg writes (JPEG_MAX_DIMENSION),
in AVIF what libavif reads (AVIF_DEFAULT_IMAGE_DIMENSION_LIMIT)."""

MAX_PIXELS: dict[Format, int] = {"avif": 16_384 * 16_384}
"""The most pixels: what libavif reads (AVIF_DEFAULT_IMAGE_SIZE_LIMIT)."""


ENCODER_BYTES: dict[Format, int] = {"webp": 6, "avif": 38, "tiff": 9}
"""Bytes for each pixel that encoding takes at most beside the pixels and a file of 2: measured with noise of 12 MP."""

LOSSLESS_WEBP_BYTES = 23
"""The same of a WebP without loss."""


def encoder_bytes(options: OutputOptions) -> int:
    """Bytes for each pixel of a result that its encoder takes, more than those of a PNG or JPEG do."""
    if options.format == "webp" and options.lossless:
        return LOSSLESS_WEBP_BYTES
    return ENCODER_BYTES.get(options.format, 0)


def check_options(options: OutputOptions) -> None:
    """Raise InvalidRequest, which names the member, when the format cannot do what is asked."""
    if refused := refusal(options):
        raise InvalidRequest(refused.reason, param=f"output.{refused.member}")


def check_holds(options: OutputOptions, width: int, height: int) -> None:
    """Raise ImageTooLarge when the format cannot hold an image of this size."""
    form = options.format
    longest, pixels = MAX_SIDES.get(form), MAX_PIXELS.get(form)
    if longest is not None and max(width, height) > longest:
        what = f"a side of {form} at most {longest}"
    elif pixels is not None and width * height > pixels:
        what = f"{form} at most {pixels} pixels"
    else:
        return
    raise ImageTooLarge(f"the result has {width}x{height} px, {what}; ask for png", param="output.format")


def check_result_size(limits: LimitSettings, width: int, height: int, param: str | None = None) -> None:
    """Raise ImageTooLarge, with this `param`, when a result has more pixels than the operator allows."""
    if (megapixels := width * height / 1e6) > limits.result_megapixels:
        raise ImageTooLarge(
            f"the result would have {width}x{height} px, which is {megapixels:.1f} MP; the limit is "
            f"{limits.result_megapixels} MP",
            param=param,
        )


def for_source(options: OutputOptions, source_format: str | None) -> OutputOptions:
    """The options for an input of this format, None where there is no image: `source` becomes a format of files.

    Raises InvalidRequest when that cannot do what is asked.
    """
    if options.format != "source":
        return options
    known = replace(options, format=SOURCE_FORMATS.get(source_format or "", "png"))
    check_options(known)
    return known
