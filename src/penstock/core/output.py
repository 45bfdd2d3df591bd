"""How a result image is written, and what a format of files cannot do. Pure."""

from collections.abc import Callable
from typing import Annotated, Literal

from msgspec import Meta, Struct

Format = Literal["png", "jpeg", "webp", "avif", "tiff", "source"]
"""The formats of results. `source` is that of the input; a worker knows it before it runs a model."""

Chroma = Literal["444", "422", "420"]

Metadata = Literal["strip", "keep"]

Quality = Annotated[int, Meta(ge=1, le=100, description="of jpeg, webp and avif")]
Background = Annotated[
    str,
    Meta(
        pattern=r"^#([0-9a-fA-F]{3}|[0-9a-fA-F]{6})(?!\n)$",
        description="CSS hex colour that is put under what is transparent; without it, a jpeg has white there",
    ),
]
Dpi = Annotated[int, Meta(ge=1, le=65_535, description="pixels per inch that the file names: png, jpeg and tiff")]
MaxBytes = Annotated[
    int,
    Meta(ge=100, le=2**40, description="of jpeg, webp and avif: the quality is lowered until the file is no larger"),
]

Bits = Annotated[Literal[8, 16], Meta(description="of each sample: 16 of png")]
Color = Annotated[
    Literal["srgb", "keep"],
    Meta(description="`keep`: the colours of the input, whose profile the result then has, are not converted to sRGB"),
]

SOURCE_FORMATS: dict[str, Format] = {
    "png": "png",
    "jpeg": "jpeg",
    "webp": "webp",
    "avif": "avif",
    "tiff": "tiff",
    "heic": "jpeg",
    "heif": "jpeg",
}
"""Format of an input -> what `source` means for it. Of any other, such as gif and bmp, it is png, which loses
nothing."""


class OutputOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a result image is encoded. `jpeg` and `avif` have a `chroma` of 444 unless another is asked for.

    `exif` is the block that the file gets: a worker makes it from the input where `metadata` is kept.
    """

    format: Format = "png"
    quality: Quality = 90
    lossless: bool = False
    max_bytes: MaxBytes | None = None
    chroma: Chroma | None = None
    background: Background | None = None
    dpi: Dpi | None = None
    bits: Bits = 8
    color: Color = "srgb"
    metadata: Metadata = "strip"
    keep_location: bool = False
    exif: bytes = b""


class OutputRefusal(Struct, frozen=True):
    """The member of the options that cannot be done, and why."""

    member: str
    reason: str


class _Rule(Struct, frozen=True):
    """What only some formats can do."""

    member: str
    is_wanted: Callable[[OutputOptions], bool]
    formats: tuple[Format, ...]
    reason: str


CAN_NAME_DPI: tuple[Format, ...] = ("png", "jpeg", "tiff")

_RULES = (
    _Rule("lossless", lambda o: o.lossless, ("png", "webp", "tiff"), "{} is never lossless"),
    _Rule("max_bytes", lambda o: o.max_bytes is not None, ("jpeg", "webp", "avif"), "{} has no quality to lower"),
    _Rule("chroma", lambda o: o.chroma == "420", ("jpeg", "avif", "webp"), "{} keeps all colours"),
    _Rule("chroma", lambda o: o.chroma not in (None, "420"), ("jpeg", "avif"), "{} has no choice of chroma"),
    _Rule("bits", lambda o: o.bits > 8, ("png",), "{} has 8 bits"),
    _Rule("dpi", lambda o: o.dpi is not None, CAN_NAME_DPI, "{} has no place for it"),
    _Rule("keep_location", lambda o: o.keep_location, ("png", "jpeg", "webp", "avif"), "{} has no place for it"),
)


def refusal(options: OutputOptions) -> OutputRefusal | None:
    """What these options want that their format cannot do, or that contradicts itself; None where all is well. Of the
    format `source` only the latter is known."""
    if options.keep_location and options.metadata == "strip":
        return OutputRefusal("keep_location", "there is no location without metadata: keep")
    if options.lossless and options.max_bytes is not None:
        return OutputRefusal("max_bytes", "a lossless file is as large as it is; leave out lossless or max_bytes")
    if options.lossless and options.chroma is not None:
        return OutputRefusal("chroma", "a lossless file keeps all colours; leave out lossless or chroma")
    if options.format == "source":
        return None
    for rule in _RULES:
        if options.format not in rule.formats and rule.is_wanted(options):
            reason = rule.reason.format("JPEG" if options.format == "jpeg" else options.format)
            return OutputRefusal(rule.member, f"{reason}; ask for {_either(rule.formats)}")
    return None


def _either(formats: tuple[Format, ...]) -> str:
    return " or ".join(filter(None, [", ".join(formats[:-1]), formats[-1]]))
