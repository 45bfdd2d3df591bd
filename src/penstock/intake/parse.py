"""JSON of clients, decoded into structs, and the words for what is wrong with it."""

import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, Struct, UnsetType, inspect

from penstock.errors import InvalidRequest, MalformedRequest
from penstock.intake.json_bounds import structure_of

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Some editors and PowerShell write it in front of UTF-8."""

UNREADABLE = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What msgspec raises for text that is not JSON, is nested too deeply, or is not what the type says."""

T = TypeVar("T")

ON_LOOP_BYTES = 64 * 1024
"""Longest JSON that the event loop decodes itself; at worst, which is 32,000 strings, that takes some 25 ms."""

_NULL = re.compile(rb"null[\s,}]")

SHOWN = 200
"""How many characters of the client's own text an answer repeats at most."""

NEEDED = "this parameter is needed"
_HAVE_OTHERS = ("Invalid enum value", "Object contains unknown field", NEEDED)
_PATH = re.compile(r"^.*\$|\[\.\.\.\]|`")
_MEMBER = re.compile(r"(?:unknown|missing required) field `(.+)`", re.DOTALL)
_STEPS = re.compile(r"\.([^.\[]+)|(\[)")


class Finding(Struct, frozen=True, kw_only=True):
    """One of several things wrong with one request; in the lines of a batch, with the number of the line, from 1."""

    param: str
    detail: str
    code: str | UnsetType = UNSET
    line: int | UnsetType = UNSET
    custom_id: str | UnsetType = UNSET


class InvalidLines(InvalidRequest):
    """Lines of a batch are wrong, and none is queued; `findings` has the first of them."""

    def __init__(self, detail: str, findings: tuple[Finding, ...]) -> None:
        super().__init__(detail, param="lines")
        self.findings = findings


def decode(body: bytes, kind: type[T], *, inside: str = "", max_bytes: float = math.inf) -> T:
    """Return the body as this type. It is UTF-8, with or without a byte order mark; a member that is null is left out.

    `max_bytes` limits the body without the `data:` URIs in it. Raises MalformedRequest, InvalidRequest,
    PayloadTooLarge.
    """
    plain = body.removeprefix(BYTE_ORDER_MARK)
    return decode_plain(plain, kind, inside=inside, max_bytes=max_bytes)


def decode_plain(
    body: bytes, kind: type[T], *, inside: str = "", max_bytes: float = math.inf, was_checked: bool = False
) -> T:
    """Decode JSON that has no byte order mark, such as the lines of a batch. Raises as `decode` does.

    What `was_checked` has been decoded before: its bounds are not looked at again.
    """
    has_nulls = _NULL.search(body if was_checked else structure_of(body, max_bytes))
    try:
        if not has_nulls:
            return msgspec.json.decode(body, type=kind)
        members = leave_out_nulls(msgspec.json.decode(body))
        if len(body) > ON_LOOP_BYTES and not _has_raw(kind):
            return msgspec.convert(members, kind)  # long strings are in memory once
        return msgspec.json.decode(msgspec.json.encode(members), type=kind)
    except msgspec.ValidationError as error:
        raise invalid(error, kind, inside=inside) from error
    except UNREADABLE as error:
        raise MalformedRequest(f"{inside or 'the body'} is not JSON, or is nested too deeply") from error


def convert(value: Any, kind: Any, *, inside: str = "") -> Any:
    """Convert a part of a body that is decoded already. Raises InvalidRequest."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise invalid(error, kind, inside=inside) from error


def invalid(error: msgspec.ValidationError, kind: Any, *, inside: str = "") -> InvalidRequest:
    """Return the refusal for msgspec's "Expected `int` <= 100 - at `$.output.quality`"; `param` names the place.

    Where a value is not one of a list, or a member is not known, the detail names those of `kind`.
    """
    text, _, where = str(error).partition(" - at ")
    path = [inside, _PATH.sub("", where.strip("`")).removeprefix("."), *_MEMBER.findall(text)]
    detail = with_known(text, kind, where.strip("`"))
    return InvalidRequest(detail, param=".".join(part for part in path if part)[:SHOWN] or None)


def with_known(text: str, kind: Any, where: str = "") -> str:
    """Return what is wrong, and after it the values or members that the type has at this place, where that helps."""
    known = ", ".join(known_at(kind, where)) if text.startswith(_HAVE_OTHERS) else ""
    return f"{text[:SHOWN]}; known are: {known}" if known else text[:SHOWN]


def known_at(kind: Any, where: str) -> list[str]:
    """Return the values, or the members, that the type has at this place of a document, such as `$.output.format`."""
    types = list(_alternatives(inspect.type_info(kind)))
    for member, _ in _STEPS.findall(where):
        types = [known for outer in types for inner in _inside(outer, member) for known in _alternatives(inner)]
    return [word for known in types for word in _words(known)]


def leave_out_nulls(value: Any) -> Any:
    """Return JSON without the members that are null, but for what is inside of the members of an input."""
    if isinstance(value, dict):
        members = {name: member for name, member in value.items() if member is not None}
        return {name: _leave_out(name, member) for name, member in members.items()}
    return [leave_out_nulls(item) for item in value] if isinstance(value, list) else value


def _leave_out(name: str, member: Any) -> Any:
    # What is inside of a member of an input is the model's, nulls and all.
    if name == "input" and isinstance(member, dict):
        return {name: value for name, value in member.items() if value is not None}
    return leave_out_nulls(member)


def _has_raw(kind: type[Any]) -> bool:
    """Whether a type keeps some members as text, which cannot be converted."""
    members = [
        one
        for struct in _alternatives(inspect.type_info(kind))
        if isinstance(struct, inspect.StructType)
        for field in struct.fields
        for one in _alternatives(field.type)
    ]
    items = [item for member in members for item in _inside(member, "")]
    return any(isinstance(one, inspect.RawType) for item in [*members, *items] for one in _alternatives(item))


def _alternatives(type_info: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(type_info, inspect.Metadata):
        yield from _alternatives(type_info.type)
    elif isinstance(type_info, inspect.UnionType):
        for one in type_info.types:
            yield from _alternatives(one)
    else:
        yield type_info


def _inside(type_info: inspect.Type, member: str) -> Iterable[inspect.Type]:
    """Return the types of this member, or, without a name, those of a list's items and a dict's values."""
    if isinstance(type_info, inspect.StructType):
        return [field.type for field in type_info.fields if field.encode_name == member]
    if isinstance(type_info, inspect.VarTupleType | inspect.ListType):
        return [type_info.item_type]
    return [type_info.value_type] if isinstance(type_info, inspect.DictType) else []


def _words(type_info: inspect.Type) -> list[str]:
    if isinstance(type_info, inspect.StructType):
        return [field.encode_name for field in type_info.fields]
    if isinstance(type_info, inspect.EnumType):
        return [str(one.value) for one in type_info.cls]
    if isinstance(type_info, inspect.VarTupleType | inspect.ListType):
        return [word for one in _alternatives(type_info.item_type) for word in _words(one)]
    return [str(value) for value in type_info.values] if isinstance(type_info, inspect.LiteralType) else []
