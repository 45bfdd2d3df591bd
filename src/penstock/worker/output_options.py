"""How the result of one input is encoded.

What only the input tells is known here, before anything runs: no runner has to ask for it.
"""

from collections.abc import Iterable, Iterator

from penstock.core.model import Produces
from penstock.core.output import OutputOptions
from penstock.models.members import InputMembers
from penstock.pixels.formats import for_source
from penstock.pixels.headers import content_type_of
from penstock.pixels.notes import Note


def options_for(output: OutputOptions, source: bytes | InputMembers) -> OutputOptions:
    """The options as runners get them: `source` becomes the format of the input's first image.

    Raises InvalidRequest when that format cannot do what is asked.
    """
    if output.format != "source":
        return output
    image = first_image(source)
    if image is None:
        return for_source(output, None)
    return for_source(output, str(content_type_of(image)).removeprefix("image/"))


def told(notes: Iterable[Note], *, produces: Produces) -> Iterator[Note]:
    """The notes that are true of the result: data has no metadata in any case."""
    return (note for note in notes if produces != "data" or note != "metadata_stripped")


def first_image(source: bytes | InputMembers) -> bytes | None:
    """The first file of an input that begins as an image does; None where there is none."""
    for file in (source,) if isinstance(source, bytes) else source.values():
        if isinstance(file, bytes) and content_type_of(file) is not None:
            return file
    return None
