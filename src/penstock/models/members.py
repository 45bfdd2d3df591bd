"""The input of a task as a model gets it: one value for each member that the model declares in its `inputs`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self, get_args

import msgspec
from msgspec import Meta

from penstock.core.model import SOLE_IMAGE, Member, MemberKind
from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.pixels.headers import ImageBounds, content_type_of
from penstock.pixels.picture import Picture
from penstock.settings import LimitSettings

decoding = lazy_import("penstock.pixels.decoding")

Inputs = Mapping[str, MemberKind | Member]
"""What a class may declare as its `inputs`: `{"audio": "file", "text": "json"}`, or a Member in place of the word."""

ALIASES = (SOLE_IMAGE, "image_url")
"""Names under which the only image of a model can be read, whatever the model calls it."""

DEFAULT_BOUNDS = ImageBounds.of(LimitSettings())

AcceptTruncated = Annotated[
    bool, Meta(description="take a JPEG or PNG that breaks off: what is missing is grey, black or transparent")
]
"""The type of a parameter `accept_truncated`. Whatever model has one gets truncated images where it is true."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
_WIRE = frozenset({"image_url", "upload_id"})
"""Names with a meaning of their own on the wire."""


def bounds_for(limits: LimitSettings, params: Any) -> ImageBounds:
    """The bounds of the images of a task with these parameters of its model."""
    return ImageBounds.of(limits, takes_truncated=getattr(params, "accept_truncated", False) is True)


class InputFile(bytes):
    """The bytes of an image or file, with its `content_type`, and its `name` where one is known (else empty)."""

    content_type: str
    name: str
    _bounds: ImageBounds

    def __new__(
        cls,
        data: bytes,
        *,
        content_type: str = "",
        name: str = "",
        bounds: ImageBounds = DEFAULT_BOUNDS,
    ) -> Self:
        """Copies `data`. Without a content type it is that of the image in `data`, else application/octet-stream."""
        self = super().__new__(cls, data)
        self.content_type = content_type or content_type_of(data) or "application/octet-stream"
        self.name = name
        self._bounds = bounds
        return self

    def image(self) -> Picture:
        """Decode the image within the operator's limits: pixels upright, in sRGB. Raises what `decode`
        raises."""
        picture: Picture = decoding.decode(self, self._bounds)
        return picture


class InputMembers(dict[str, Any]):
    """Members by name: an InputFile for each image and file, the value of JSON as it came. A member that is optional
    and was not sent is missing. The only image can also be read as `image` and `image_url`. In the short contract
    `params` has the parameters of the task."""

    def __init__(self, values: Mapping[str, Any], sole_image: str | None = None) -> None:
        super().__init__(values)
        self.params: Any = None
        self._sole_image = sole_image

    def __missing__(self, name: str) -> Any:
        if name in self:
            return self[str(self._sole_image)]
        raise KeyError(name)

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (name in ALIASES and super().__contains__(self._sole_image))

    def get(self, name: str, default: Any = None) -> Any:
        """The member, or `default` where it was not sent."""
        return self[name] if name in self else default  # noqa: SIM401  it is what `get` does


def size_of(source: bytes | Mapping[str, Any]) -> int:
    """The bytes of an input: of all its files, and of JSON as it was sent."""
    if isinstance(source, bytes):
        return len(source)
    return sum(len(v) if isinstance(v, bytes) else len(msgspec.json.encode(v)) for v in source.values())


def members_of(declared: Any, *, owner: str) -> dict[str, Member]:
    """The members that a class declares in `inputs`; none where it declares none.

    Raises ConfigurationError, which names the `owner`, when the declaration has a wrong form.
    """
    if not isinstance(declared, Mapping):
        raise ConfigurationError(f'{owner}.inputs is {declared!r}: write a mapping such as {{"image": "image"}}')
    return {name: _member(name, value, owner) for name, value in declared.items()}


def _member(name: Any, value: Any, owner: str) -> Member:
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _WIRE:
        raise ConfigurationError(
            f"{owner}.inputs: {name!r} cannot be the name of a member: take letters, digits, _ and -, and neither "
            "image_url nor upload_id"
        )
    if isinstance(value, Member) and value.kind in get_args(MemberKind):
        return value
    if value not in get_args(MemberKind):
        raise ConfigurationError(f'{owner}.inputs[{name!r}] is {value!r}: write "image", "file", "json" or a Member')
    return Member(kind=value)
