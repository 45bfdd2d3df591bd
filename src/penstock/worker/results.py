"""Checks what a runner has returned, and makes of it a result that can be published.

Runners may be anybody's code: a product that no record can hold fails its task with a reason, at the first attempt.
"""

import hashlib
import operator
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import replace

from penstock.core.model import Produces
from penstock.core.task import Artifact, Result
from penstock.errors import ModelResultInvalid
from penstock.models.base import Product, ProductFile
from penstock.pixels.notes import NOTES, Note, in_order
from penstock.settings import LimitSettings
from penstock.storage import Item
from penstock.worker.result_data import kind_of, plain
from penstock.worker.spool import StoredFiles

FIRST = "result"
"""The name, without its extension, of the file that a Product holds in `file`."""

MOST_PIXELS = 2**31 - 1
"""No format of images has a longer side."""

_EXTENSION = re.compile(r"[A-Za-z0-9]{1,16}")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_CONTENT_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w.+-]+=[\w.+-]+)*", re.ASCII)


def published(
    product: Any, key: str, *, produces: Produces, limits: LimitSettings, notes: Iterable[Note] = ()
) -> tuple[Result, StoredFiles | None]:
    """Returns the result as the record will show it, and the files to store for it, whose keys begin with `key`. It has
    the notes of the product and these.

    Raises ModelResultInvalid when the product, or a part of it, is of a wrong type or not what the card of the model
    says, when its data cannot be JSON, when its notes are not all known, when a file has no sound name of its own, and
    when a limit is exceeded.
    """
    if not isinstance(product, Product):
        raise ModelResultInvalid(f"the model returned {kind_of(product)} where a Product is expected")
    files = files_of(product)
    _check_promise(files, product, produces)
    data = None if product.data is None else plain(product.data, max_bytes=limits.max_result_data_bytes)
    told = in_order((*notes, *_noted(product.notes)))
    if not files:
        return Result(data=data, notes=told), None
    _check_limits(files, limits)
    items = [Item(_key(file, key), bytes(file.content), file.content_type, once=True) for file in files]
    artifacts = tuple(_artifact(item, file) for item, file in zip(items, files, strict=True))
    return Result(artifacts=artifacts, data=data, notes=told), StoredFiles(items)


def _noted(notes: Any) -> Sequence[Note]:
    if not isinstance(notes, list | tuple) or not all(note in NOTES for note in notes):
        raise ModelResultInvalid(f"the notes of the result are not all among {', '.join(NOTES)}")
    return notes


def announced(
    product: Any, key: str, *, produces: Produces, limits: LimitSettings, notes: Iterable[Note] = ()
) -> Result:
    """Returns a result before its one file is written: all but the size and the digest of that.

    Raises ModelResultInvalid as `published` does.
    """
    if not isinstance(product, Product):
        raise ModelResultInvalid(f"the model streams {kind_of(product)} where a Product is expected")
    (file, *others) = files_of(replace(product, file=b""))
    if others:
        raise ModelResultInvalid("the product of a stream has other files than the one that is written")
    _check_promise([file], product, produces)
    data = None if product.data is None else plain(product.data, max_bytes=limits.max_result_data_bytes)
    artifact = _artifact(Item(_key(file, key), b"", file.content_type), file)
    return Result(artifacts=(artifact,), data=data, notes=in_order((*notes, *_noted(product.notes))))


def check_bytes(size: int, limits: LimitSettings) -> None:
    """Raise ModelResultInvalid when a result has more bytes than it may."""
    if size > limits.max_result_bytes:
        raise ModelResultInvalid(
            f"the files of the result have more than limits.max_result_bytes ({limits.max_result_bytes})"
        )


def files_of(product: Product) -> list[ProductFile]:
    """All files of a product, that of `file` first; each of them is what it should be."""
    if not isinstance(product.files, list | tuple):
        raise ModelResultInvalid(f"the files of the result are {kind_of(product.files)}, not a list")
    files = [*product.files]
    if product.file is not None:
        name = f"{FIRST}.{_matching(_EXTENSION, product.extension, 'extension')}"
        files.insert(0, ProductFile(name, product.file, product.content_type, product.width, product.height))
    for file in files:
        _check_file(file)
    return files


def _check_file(file: Any) -> None:
    if not isinstance(file, ProductFile):
        raise ModelResultInvalid(f"the files of the result have {kind_of(file)}, which is no ProductFile")
    if not isinstance(file.content, bytes | bytearray | memoryview):
        raise ModelResultInvalid(f"the file of the result is {kind_of(file.content)}, not bytes")
    _matching(_NAME, file.name, "name of a file")
    _matching(_CONTENT_TYPE, file.content_type, "content type")
    for name in ("width", "height"):
        _pixels(getattr(file, name), name)


def _check_promise(files: Sequence[ProductFile], product: Product, produces: Produces) -> None:
    # Clients rely on the card: they name files and show results as it says.
    returned = f"a file of type {files[0].content_type[:50]!r}" if files else "no file"
    if produces == "image" and not (files and files[0].content_type.startswith("image/")):
        raise ModelResultInvalid(f"the model returned {returned}, and its card says that it produces an image")
    if not files and product.data is None:
        raise ModelResultInvalid("the model returned a Product without a file and without data")
    if produces == "data" and files:
        raise ModelResultInvalid(f"the model returned {returned}, and its card says that it produces data alone")


def _check_limits(files: Sequence[ProductFile], limits: LimitSettings) -> None:
    # Some disks and clients take `a.png` and `A.png` for one file.
    names = Counter(file.name.lower() for file in files)
    if twice := [name for name, count in names.items() if count > 1]:
        raise ModelResultInvalid(f"two files of the result are named {twice[0]!r}")
    if len(files) > limits.max_result_files:
        raise ModelResultInvalid(
            f"the result has {len(files)} files, more than limits.max_result_files ({limits.max_result_files})"
        )
    check_bytes(sum(memoryview(file.content).nbytes for file in files), limits)


def _key(file: ProductFile, key: str) -> str:
    if file.name.startswith(f"{FIRST}."):
        return key + file.name.removeprefix(FIRST)
    return f"{key}-{file.name}"


def _artifact(item: Item, file: ProductFile) -> Artifact:
    return Artifact(
        name=file.name,
        s3_key=item.key,
        size=len(item.data),
        sha256=hashlib.sha256(item.data).hexdigest(),
        content_type=file.content_type,
        width=_pixels(file.width, "width"),
        height=_pixels(file.height, "height"),
    )


def _pixels(value: Any, name: str) -> int | None:
    if value is None:
        return None
    try:
        pixels = operator.index(value)  # an integer of numpy is one, too
    except TypeError:
        raise ModelResultInvalid(f"the {name} of the result is {kind_of(value)}, not an integer") from None
    if not 0 <= pixels <= MOST_PIXELS:
        raise ModelResultInvalid(f"the {name} of the result is not from 0 to {MOST_PIXELS}")
    return pixels


def _matching(pattern: re.Pattern[str], value: Any, name: str) -> str:
    if not (isinstance(value, str) and pattern.fullmatch(value)):
        raise ModelResultInvalid(f"the {name} of the result is not one: {str(value)[:50]!r}")
    return value
