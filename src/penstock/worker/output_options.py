"""How the result of one input is encoded.

What only the input tells is known here, before anything runs: no runner has to ask for it.
"""

from collections.abc import Iterable, Iterator

from msgspec.structs import replace

from penstock.core.model import Produces
from penstock.core.output import CAN_NAME_DPI, OutputOptions
from penstock.models.members import InputMembers
from penstock.pixels.exif import metadata_of, rewritten
from penstock.pixels.formats import for_source
from penstock.pixels.headers import content_type_of
from penstock.pixels.notes import Note


def options_for(output: OutputOptions, source: bytes | InputMembers) -> OutputOptions:
    """The options as runners get them, from the first image of the input: `source` becomes its format, and `exif` what
    is kept of its metadata.

    Raises InvalidRequest when that format cannot do what is asked.
    """
    if output.format != "source" and output.metadata == "strip":
        return output
    image = first_image(source)
    if image is None:
        return for_source(output, None)
    known = for_source(output, str(content_type_of(image)).removeprefix("image/"))
    return known if known.metadata == "strip" else _with_metadata(known, image)


def _with_metadata(output: OutputOptions, image: bytes) -> OutputOptions:
    found = metadata_of(image)
    dpi = output.dpi or (found.dpi if output.format in CAN_NAME_DPI else None)
    exif = rewritten(found.exif, keep_location=output.keep_location, dpi=dpi) if found.exif else b""
    return replace(output, exif=exif, dpi=dpi)


def told(notes: Iterable[Note], output: OutputOptions, *, produces: Produces) -> Iterator[Note]:
    """The notes that are true of the result: data has no metadata in any case, and some files keep it."""
    has_lost = produces != "data" and not output.exif
    return (note for note in notes if has_lost or note != "metadata_stripped")


def first_image(source: bytes | InputMembers) -> bytes | None:
    """The first file of an input that begins as an image does; None where there is none."""
    for file in (source,) if isinstance(source, bytes) else source.values():
        if isinstance(file, bytes) and content_type_of(file) is not None:
            return file
    return None
