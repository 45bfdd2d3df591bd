"""Checks what a runner has returned, and makes of it a result that can be published.

Runners may be anybody's code: a product that no record can hold fails its task with a reason, at the first attempt.
"""

import hashlib
import math
import operator
import re
from typing import Any

import msgspec

from penstock.core.model import Produces
from penstock.core.task import Artifact, Result
from penstock.errors import ModelResultInvalid
from penstock.models.base import Product
from penstock.worker.spool import StoredFile

MAX_DEPTH = 64
"""The most levels of lists and objects in the data of a result; JSON parsers give up at some hundred."""

BYTES_PER_CHARACTER = 8
"""An array has at most so many bytes for each character of its JSON: 16 for a number, which is written with two
characters or more. So an array that is too large is refused before a list is made of it."""

_EXTENSION = re.compile(r"[A-Za-z0-9]{1,16}")
_CONTENT_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(; ?[\w.+-]+=[\w.+-]+)*", re.ASCII)


def published(product: Any, key: str, *, produces: Produces, max_data_bytes: int) -> tuple[Result, StoredFile | None]:
    """Returns the result as the record will show it, and the file to store for it under `key` and its extension.

    Raises ModelResultInvalid when the product, or a part of it, is of a wrong type or not what the card of the model
    says, when its data cannot be JSON, or takes more than `max_data_bytes` as JSON.
    """
    if not isinstance(product, Product):
        raise ModelResultInvalid(f"the model returned {_kind(product)} where a Product is expected")
    _check_promise(product, produces)
    data = None if product.data is None else plain(product.data, max_bytes=max_data_bytes)
    if product.file is None:
        return Result(data=data), None
    if not isinstance(product.file, bytes | bytearray | memoryview):
        raise ModelResultInvalid(f"the file of the result is {_kind(product.file)}, not bytes")
    file = bytes(product.file)
    artifact = Artifact(
        s3_key=f"{key}.{_matching(_EXTENSION, product.extension, 'extension')}",
        size=len(file),
        sha256=hashlib.sha256(file).hexdigest(),
        content_type=_matching(_CONTENT_TYPE, product.content_type, "content type"),
        width=_pixels(product.width, "width"),
        height=_pixels(product.height, "height"),
    )
    return Result(artifact=artifact, data=data), StoredFile(artifact.s3_key, artifact.content_type, file)


def _check_promise(product: Product, produces: Produces) -> None:
    # Clients rely on the card: they name files and show results as it says.
    is_image = product.file is not None and str(product.content_type).startswith("image/")
    returned = "no file" if product.file is None else f"a file of type {str(product.content_type)[:50]!r}"
    if produces == "image" and not is_image:
        raise ModelResultInvalid(f"the model returned {returned}, and its card says that it produces an image")
    if product.file is None and product.data is None:
        raise ModelResultInvalid("the model returned a Product without a file and without data")
    if produces == "data" and product.file is not None:
        raise ModelResultInvalid(f"the model returned {returned}, and its card says that it produces data alone")


def plain(data: Any, *, max_bytes: int) -> dict[str, Any]:
    """Returns the data of a result in plain types: scalars and arrays of numpy become numbers and lists.

    Raises ModelResultInvalid as `published` does.
    """

    def from_array(value: Any) -> Any:
        if not (hasattr(value, "tolist") and hasattr(value, "dtype")):
            raise ModelResultInvalid(f"the data of the result has {_kind(value)}, which JSON cannot hold")
        if getattr(value, "nbytes", 0) > BYTES_PER_CHARACTER * max_bytes:
            raise _too_large(max_bytes)
        return value.tolist()

    try:
        converted = msgspec.to_builtins(data, enc_hook=from_array)
        _check(converted, "data", 0)
        size = len(msgspec.json.encode(converted))
    except (RecursionError, TypeError, ValueError, OverflowError) as error:  # ValueError: half of a surrogate pair
        raise ModelResultInvalid("the data of the result cannot be written as JSON") from error
    if not isinstance(converted, dict):
        raise ModelResultInvalid(f"the data of the result is {_kind(data)}, not an object")
    if size > max_bytes:
        raise _too_large(max_bytes)
    return converted


def _check(value: Any, path: str, depth: int) -> None:
    """Refuse what the encoder would change without a word: it makes null of NaN, and text of keys that are none."""
    if depth > MAX_DEPTH:
        raise ModelResultInvalid(f"the data of the result has more than {MAX_DEPTH} levels")
    if isinstance(value, float) and not math.isfinite(value):
        raise ModelResultInvalid(f"{path} of the result is {value}, which JSON cannot hold")
    if isinstance(value, dict):
        for name, member in value.items():
            if not isinstance(name, str):
                raise ModelResultInvalid(f"{path} of the result has a name that is {_kind(name)}, not a string")
            _check(member, f"{path}.{name}"[:100], depth + 1)
    elif isinstance(value, list | tuple):
        for place, member in enumerate(value):
            _check(member, f"{path}[{place}]"[:100], depth + 1)


def _pixels(value: Any, name: str) -> int | None:
    if value is None:
        return None
    try:
        return operator.index(value)  # an integer of numpy is one, too
    except TypeError:
        raise ModelResultInvalid(f"the {name} of the result is {_kind(value)}, not an integer") from None


def _matching(pattern: re.Pattern[str], value: Any, name: str) -> str:
    if not (isinstance(value, str) and pattern.fullmatch(value)):
        raise ModelResultInvalid(f"the {name} of the result is not one: {str(value)[:50]!r}")
    return value


def _too_large(max_bytes: int) -> ModelResultInvalid:
    return ModelResultInvalid(f"the data of the result takes more than limits.max_result_data_bytes ({max_bytes})")


def _kind(value: Any) -> str:
    return f"a {type(value).__name__}"
