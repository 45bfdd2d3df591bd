"""The lines of a batch: split from what a client sends, decoded, and each with the defaults of the batch one task."""

from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Struct, UnsetType

from penstock.core.batch import StoredLine
from penstock.core.task import Priority
from penstock.errors import InvalidRequest, MalformedRequest, PayloadTooLarge, ResultExpired
from penstock.intake.parse import BYTE_ORDER_MARK, UNREADABLE, convert, decode_plain
from penstock.intake.requests import MAX_LINES, BatchDefaults, BatchLine, TaskRequest

MAX_LINE_BYTES = 1024 * 1024

SLICE = 16
"""Lines that are checked at a time, which takes about 1 ms."""
SLICE_BYTES = 512 * 1024
"""A slice of the lines of a file ends with the line that brings it to so many bytes, or when it is full."""

MAX_NUMBER = 2 * MAX_LINES
"""Lines of a file with those that are empty: compressed, a file of nothing else is as good as free to send."""

Text = bytes | None
"""A line as it came; None for one that is too long to be read."""

Slices = AsyncIterator[Sequence[tuple[int, Text]]]
"""Some lines at a time, each with its number from 1."""


async def sliced(rows: Iterable[msgspec.Raw]) -> AsyncGenerator[Sequence[tuple[int, Text]], None]:
    """Yield the lines of a JSON body in slices, numbered."""
    lines: list[tuple[int, Text]] = []
    for number, row in enumerate(rows, 1):
        text = bytes(row)
        lines.append((number, None if len(text) > MAX_LINE_BYTES else _on_one_line(text)))
        if len(lines) == SLICE:
            yield lines
            lines = []
    yield lines


async def split(pieces: AsyncIterator[bytes], max_bytes: int) -> AsyncGenerator[Sequence[tuple[int, Text]], None]:
    """Yield the lines of a file that comes piece by piece in slices, numbered; empty lines are counted and left out.

    Files that were put together may have a byte order mark in front of any line. Raises PayloadTooLarge when the file
    is longer than `max_bytes`, InvalidRequest when it has too many lines.
    """
    number, size, rest, is_too_long = 0, 0, b"", False
    lines: list[tuple[int, Text]] = []
    held = 0
    async for piece in _with_line_break(pieces):
        size += len(piece)
        if size > max_bytes:
            raise PayloadTooLarge("the batch is over limits.max_batch_bytes")
        *whole, rest = (rest + piece).split(b"\n")
        if number + len(whole) > MAX_NUMBER:
            raise InvalidRequest(f"a batch has {MAX_LINES} lines at most, and as many empty ones", param="lines")
        for text in whole:
            number += 1
            if is_too_long or len(text) > MAX_LINE_BYTES:
                lines.append((number, None))
            elif stripped := text.removeprefix(BYTE_ORDER_MARK).strip():
                lines.append((number, stripped))
                held += len(stripped)
            is_too_long = False
            if len(lines) == SLICE or held >= SLICE_BYTES:
                yield lines
                lines, held = [], 0
        if len(rest) > MAX_LINE_BYTES:
            rest, is_too_long = b"", True
    yield lines


async def _with_line_break(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """Yield a line break after the pieces, so that the last line has one; a second one does no harm."""
    async for piece in pieces:
        yield piece
    yield b"\n"


def _on_one_line(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1) if b"\n" in text else text


def line_of(text: bytes | msgspec.Raw, *, was_checked: bool = False) -> BatchLine:
    """Decode a line. Raises InvalidRequest."""
    try:
        return decode_plain(bytes(text), BatchLine, was_checked=was_checked)
    except MalformedRequest as error:
        raise InvalidRequest("the line is not JSON, or is nested too deeply") from error


def defaults_of(members: dict[str, Any]) -> BatchDefaults:
    """Convert the defaults of a batch, which its record has as JSON. Raises InvalidRequest."""
    defaults: BatchDefaults = convert(members, BatchDefaults, inside="defaults")
    return defaults


def task_of(line: BatchLine, defaults: BatchDefaults) -> TaskRequest:
    """Return the task of a line: what the line does not have, the defaults may have. Raises InvalidRequest."""
    members: dict[str, Any] = {"priority": Priority.LOW}
    for source in (defaults, line):
        for name in BatchDefaults.__struct_fields__:
            value = getattr(source, name)
            if value is not UNSET:
                members[name] = value
    for name in ("model", "input"):
        if name not in members:
            raise InvalidRequest(f"neither the line nor the defaults have `{name}`", param=name)
    return TaskRequest(**members)


def rows_of(part: bytes) -> list[StoredLine]:
    """Decode the lines of a stored part. Raises ResultExpired when it is damaged: then it is as good as gone."""
    try:
        return [msgspec.json.decode(row, type=StoredLine) for row in part.split(b"\n")]
    except UNREADABLE as error:
        raise ResultExpired("the stored lines of this batch are damaged") from error


class _Named(Struct):
    custom_id: str


def custom_id_of(text: bytes | msgspec.Raw) -> str:
    """Return the `custom_id` of a line, whatever else the line has. Raises `UNREADABLE`."""
    return msgspec.json.decode(text, type=_Named).custom_id


def readable_custom_id(text: Text) -> str | UnsetType:
    """Return what a line that is wrong calls itself, UNSET where that cannot be read."""
    try:
        return custom_id_of(text or b"")[:128]
    except UNREADABLE:
        return UNSET
