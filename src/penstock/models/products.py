"""What `postprocess` may return, and the product that it becomes.

| returned | becomes |
| --- | --- |
| `Product` | itself |
| mapping | data; its images and ProductFiles become files with the names of their members |
| `ProductFile`, or a list of files | files |
| image of Pillow, `Picture`, array of uint8 with 1 (or none), 3 or 4 channels | a file, encoded as the client asked |
| bytes | a file, whose type its first bytes say |
| any other array, list, number or text | data with the one member `output` |

Arrays are those of numpy, and what numpy can read: tensors of frameworks, in the memory of the host.

Files in a list are ProductFiles, images or bytes; those without a name of their own are named by their number, from 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

from msgspec import Struct

from penstock.core.media_types import UNKNOWN, kind_of
from penstock.core.request import OutputOptions
from penstock.errors import ModelResultInvalid, PenstockError
from penstock.lazy_import import lazy_import
from penstock.pixels.formats import CONTENT_TYPES
from penstock.pixels.headers import ImageBounds, probe
from penstock.pixels.notes import Note

if TYPE_CHECKING:
    import numpy as np
else:
    np = lazy_import("numpy")

encoding = lazy_import("penstock.pixels.encoding")


class ProductFile(Struct, frozen=True, eq=False):
    """One file of a result. Its `name` is unique in the result, whatever its case, and has at most 64 letters, digits,
    dots, dashes and underscores; `width` and `height` are in pixels where it is an image."""

    name: str
    content: bytes
    content_type: str = "application/octet-stream"
    width: int | None = None
    height: int | None = None


class Product(Struct, frozen=True, kw_only=True, eq=False):
    """What `postprocess` returns: files to store, data for the JSON of the answer, or both.

    `file` is the one that stands for the result where only one can, and is named `result.<extension>`; without it the
    first of `files` does. `notes` tell what the model did to an image, beside what decoding it has noted.
    """

    file: bytes | None = None
    content_type: str = "application/octet-stream"
    extension: str = "bin"
    width: int | None = None
    height: int | None = None
    data: dict[str, Any] | None = None
    files: Sequence[ProductFile] = ()
    notes: Sequence[Note] = ()


class FileWriter(Protocol):
    """Writes a file from outputs as they come. Only one thread at a time calls it."""

    @property
    def is_ready(self) -> bool:
        """Whether `write` would write something."""

    def write(self) -> bytes:
        """Take some of what is there. Returns the next bytes of the file, which may be none."""

    def finish(self) -> bytes:
        """Return the last bytes, once all outputs are there and were written."""


class ResultStream(Struct, frozen=True, eq=False):
    """A result whose file is written while outputs come: all of the `product` but its `file`, and who writes that."""

    product: Product
    writer: FileWriter


EXTENSIONS = {
    UNKNOWN: "bin",
    "application/gzip": "gz",
    "application/vnd.rar": "rar",
    "application/x-bzip2": "bz2",
    "application/x-7z-compressed": "7z",
    "audio/mpeg": "mp3",
    "audio/mp4": "m4a",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    "video/x-msvideo": "avi",
}
"""Extensions of the types whose subtype is none."""

OUTPUT = "output"
"""The one member of the data of a model that returns neither files nor names."""


def product_of(returned: Any, output: OutputOptions) -> Product:
    """The product that a model has returned, with its images encoded as the client asked.

    Raises ModelResultInvalid for None and for an image that cannot be encoded, ImageTooLarge for one that the format
    cannot hold. Data is not looked into.
    """
    if isinstance(returned, Product):
        return returned
    if returned is None:
        raise ModelResultInvalid("the model's postprocess returned nothing")
    if isinstance(returned, Mapping):
        return _of_mapping(returned, output)
    if _is_list_of_files(returned):
        return Product(files=[_file(one, f"{place}", output) for place, one in enumerate(returned, 1)])
    if isinstance(returned, ProductFile):
        return Product(files=[returned])
    if _is_file(returned):
        return _of_file(_file(returned, "", output))
    return Product(data={OUTPUT: _read(returned)})


def _read(value: Any) -> Any:
    return np.asarray(value) if hasattr(value, "__array__") else value


def _of_mapping(returned: Mapping[Any, Any], output: OutputOptions) -> Product:
    files = {name: value for name, value in returned.items() if _is_image_or_named(value)}
    data = {name: value for name, value in returned.items() if name not in files}
    return Product(
        files=[_file(value, str(name), output) for name, value in files.items()],
        data=data if data or not files else None,
    )


def _of_file(file: ProductFile) -> Product:
    return Product(
        file=file.content,
        content_type=file.content_type,
        extension=file.name.removeprefix("."),
        width=file.width,
        height=file.height,
    )


def _is_list_of_files(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list | tuple) and bool(value) and all(_is_file(one) for one in value)


def _is_file(value: Any) -> bool:
    is_bytes = isinstance(value, ProductFile | bytes | bytearray | memoryview)
    return is_bytes or encoding.image_of(_read(value)) is not None


def _is_image_or_named(value: Any) -> bool:
    # Bytes in a mapping are text of base64 in its JSON, and arrays are lists.
    return isinstance(value, ProductFile) or (not hasattr(value, "dtype") and encoding.image_of(value) is not None)


def _file(value: Any, name: str, output: OutputOptions) -> ProductFile:
    """The file that a value is; `name` is used without its extension where it has none of its own."""
    if isinstance(value, ProductFile):
        return value
    if isinstance(value, bytes | bytearray | memoryview):
        return _of_bytes(bytes(value), name)
    image = encoding.image_of(_read(value))
    assert image is not None  # noqa: S101  `_is_file` has seen it
    try:
        content = encoding.encoded(image, output)
    except (OSError, ValueError, SystemError) as error:
        raise ModelResultInvalid(
            f"the image that the model returned, of mode {image.mode}, cannot be encoded"
        ) from error
    return ProductFile(f"{name}.{output.format}", content, CONTENT_TYPES[output.format], *image.size)


def _of_bytes(content: bytes, name: str) -> ProductFile:
    kind = kind_of(content[:512])
    content_type = kind.type if kind else UNKNOWN
    width, height = _size_of(content) if content_type.startswith("image/") else (None, None)
    return ProductFile(f"{name}.{_extension(content_type)}", content, content_type, width, height)


def _extension(content_type: str) -> str:
    subtype = content_type.rpartition("/")[2].rpartition(".")[2].removeprefix("x-")
    return EXTENSIONS.get(content_type, subtype if subtype.isalnum() else "bin")


def _size_of(content: bytes) -> tuple[int | None, int | None]:
    try:
        header = probe(content, ImageBounds())
    except PenstockError:
        return None, None
    return header.width, header.height
