"""What a handler declares of a body that it decodes itself, or of an answer that is not a struct.

Litestar describes what it converts; the OpenAPI document takes the rest from here (`description.operations`).
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

JSON = "application/json"

Schema = dict[str, Any]
Content = Mapping[str, type[Struct] | Schema]
"""Media type -> the struct that its JSON becomes, or the schema of what is not decoded to a struct."""

BINARY: Schema = {"type": "string", "format": "binary"}
IMAGES: Content = dict.fromkeys(("image/png", "image/jpeg", "image/webp", "image/avif", "image/tiff"), BINARY)

_OPTION = "contents"


class Contents(Struct, frozen=True, kw_only=True):
    """The contents of one operation: its request body, if it takes one, and its answers by status code."""

    body: Content | None = None
    answers: Mapping[int, Content] = {}


def describe(*, body: Content | None = None, answers: Mapping[int, Content] | None = None) -> dict[str, Any]:
    """Return the `opt` of a handler with these contents."""
    return {_OPTION: Contents(body=body, answers=answers or {})}


def described(opt: Mapping[str, Any]) -> Contents:
    """Return the contents that the `opt` of a handler declares; without any, empty ones."""
    found: Contents = opt.get(_OPTION, Contents())
    return found


def component(name: str) -> Schema:
    """Return a reference to a schema of the document's components."""
    return {"$ref": f"#/components/schemas/{name}"}
