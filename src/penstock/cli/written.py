"""The options that say how result images are written."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from penstock.client import Output

F = TypeVar("F", bound=Callable[..., Any])

FORMATS = ("png", "jpeg", "jpg", "webp", "avif", "tiff", "source")

OPTIONS = {
    "format": click.option(
        "--format", type=click.Choice(FORMATS), help="Format of result images; source: of the input [png]."
    ),
    "quality": click.option(
        "--quality", type=click.IntRange(1, 100), help="Quality of JPEG, WebP and AVIF results [90]."
    ),
    "max_bytes": click.option(
        "--max-bytes", type=click.IntRange(min=100), help="Lower the quality until a file is no larger."
    ),
    "lossless": click.option("--lossless", is_flag=True, default=None, help="Write WebP results without loss."),
    "chroma": click.option(
        "--chroma", type=click.Choice(["444", "422", "420"]), help="Colours of JPEG and AVIF results [444]."
    ),
    "background": click.option(
        "--background", metavar="#RGB", help="Colour under what is transparent [white in JPEG]."
    ),
    "dpi": click.option(
        "--dpi", type=click.IntRange(1, 65_535), help="Pixels per inch that PNG, JPEG and TIFF results name."
    ),
    "bits": click.option(
        "--bits",
        type=click.Choice(["8", "16"]),
        callback=lambda _context, _option, value: None if value is None else int(value),
        help="Bits of each sample of a PNG [8].",
    ),
    "color": click.option(
        "--color", type=click.Choice(["srgb", "keep"]), help="Colours of results; keep: those of the input [srgb]."
    ),
    "metadata": click.option(
        "--metadata", type=click.Choice(["strip", "keep"]), help="EXIF of the input; keep drops its places [strip]."
    ),
    "keep_location": click.option("--keep-location", is_flag=True, default=None, help="Keep the places in it, too."),
}
"""Member of `output` -> its option."""


def written_as(command: F) -> F:
    """Adds the options."""
    for option in reversed(OPTIONS.values()):
        command = option(command)
    return command


def taken_from(members: dict[str, Any]) -> "Output":
    """Takes the options out of the arguments of a command, and returns those that were given."""
    said = {name: members.pop(name) for name in OPTIONS}
    return {name: value for name, value in said.items() if value is not None}  # type: ignore[return-value]
