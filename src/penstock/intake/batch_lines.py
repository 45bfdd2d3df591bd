"""The lines of a batch: read from a request, checked, and written to the storage in parts.

All are checked before the batch is acknowledged. Checking happens on the event loop in slices of a few lines: a thread
would take the interpreter's lock for longer, and slower.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from msgspec import UNSET, Struct

from penstock.api.http.auth import Caller
from penstock.api.routes.webhooks import accepted
from penstock.api.services import Services
from penstock.core.batch import StoredLine, part_key
from penstock.core.task import Priority
from penstock.errors import (
    InvalidRequest,
    MalformedRequest,
    PayloadTooLarge,
    PenstockError,
    ResultExpired,
    StoreUnavailable,
    UrlBlocked,
)
from penstock.intake.enqueue import check_params, examine, look_at
from penstock.intake.inline import is_inline, is_long, refuse_bare_base64
from penstock.intake.parse import BYTE_ORDER_MARK, Finding, InvalidLines, convert, decode_plain
from penstock.intake.requests import MAX_LINES, BatchDefaults, BatchLine, TaskRequest
from penstock.models.imaging import Header
from penstock.net.guard import Policy, check_input

MAX_LINE_BYTES = 1024 * 1024
SLICE, SLICE_S = 16, 0.002
"""Lines checked at a time, which take about 1 ms; fewer if they take longer."""
SLICE_BYTES = 512 * 1024
"""Of the lines of a file: a slice is begun when it has so many, or is full."""
PART_LINES, PART_BYTES = 1_000, 1024 * 1024
"""A part is full when it has either."""
MAX_FINDINGS = 100
MAX_NUMBER = 2 * MAX_LINES
"""Lines of a file with those that are empty: compressed, a file of nothing else is as good as free to send."""

Text = bytes | None
"""A line as it came; None for one that is too long to be read."""


class Received(Struct, frozen=True, kw_only=True):
    """What came: how many lines, the place of the first of each part, and a digest of all of them."""

    total: int
    starts: tuple[int, ...]
    digest: str


class _Line(Struct, eq=False):
    """One that is being checked."""

    number: int
    text: Text
    asked: TaskRequest | None = None
    header: Header | None = None
    error: PenstockError | None = None


class Receiver:
    """Takes in the lines of one batch."""

    def __init__(self, batch_id: str, defaults: Any, caller: Caller, base_url: str, services: Services) -> None:
        """`defaults` is a BatchDefaults."""
        self._batch_id = batch_id
        self._defaults = defaults
        self._caller = caller
        self._base_url = base_url
        self._services = services
        self._seen: set[str] = set()
        self._findings: list[Finding] = []
        self._digest = hashlib.sha256()
        self._part: list[bytes] = []
        self._part_bytes = 0
        self._starts: list[int] = []
        self._total = 0

    async def receive(self, slices: AsyncIterator[Sequence[tuple[int, Text]]]) -> Received:
        """All lines, checked and stored. After `MAX_FINDINGS` wrong ones the others are read, but not looked at.

        Raises InvalidLines when any is wrong, InvalidRequest when there are none or too many, StorageUnavailable,
        StoreUnavailable.
        """
        async for some in slices:
            if len(self._findings) >= MAX_FINDINGS:
                continue
            async with self._services.checking:
                await self._take_all(some)
            await asyncio.sleep(0)
            if not self._findings and (len(self._part) >= PART_LINES or self._part_bytes >= PART_BYTES):
                await self._store_part()
        if self._findings:
            raise _refusal(self._findings)
        if not self._total:
            raise InvalidRequest("a batch needs at least one line", param="lines")
        await self._store_part()
        return Received(total=self._total, starts=tuple(self._starts), digest=self._digest.hexdigest())

    async def _take_all(self, some: Sequence[tuple[int, Text]]) -> None:
        self._began = time.perf_counter()
        self._total += len(some)
        if self._total > MAX_LINES:
            raise InvalidRequest(f"a batch has {MAX_LINES} lines at most", param="lines")
        lines = [_Line(number, text) for number, text in some]
        for line in lines:
            with _noting(line):
                self._read(line)
            await self._let_others()
        if long := [line for line in lines if line.asked and _is_long_inline(line.asked)]:
            await asyncio.to_thread(self._look_at, long)
        for line in lines:
            if line.error is None and line.header is None:
                with _noting(line):
                    await self._examine(line)
                await self._let_others()
            self._keep(line)

    async def _let_others(self) -> None:
        """Have their turn, if this one has been long."""
        if time.perf_counter() - self._began > SLICE_S:
            await asyncio.sleep(0)
            self._began = time.perf_counter()

    def _read(self, line: _Line) -> None:
        if line.text is None:
            raise InvalidRequest(f"the line is longer than {MAX_LINE_BYTES} bytes")
        said = line_of(line.text)
        if said.custom_id in self._seen:
            raise InvalidRequest("another line has this custom_id", param="custom_id")
        self._seen.add(said.custom_id)
        asked = task_of(said, self._defaults)
        check_params(asked, self._services.models)
        accepted(asked.webhook, self._services, self._base_url)
        line.asked = asked

    def _look_at(self, lines: Sequence[_Line]) -> None:
        """At their inline images."""
        for line in lines:
            with _noting(line):
                assert line.asked is not None  # noqa: S101  no error is noted
                _, line.header = look_at(line.asked, self._services.settings)

    async def _examine(self, line: _Line) -> None:
        asked = line.asked
        assert asked is not None  # noqa: S101  no error is noted
        if is_inline(asked.input.image_url or ""):
            self._look_at([line])
        else:
            await examine(asked, self._services, self._caller, base_url=self._base_url)

    def _keep(self, line: _Line) -> None:
        if line.error is not None:
            self._findings.append(_finding(line.number, line.text, line.error))
            return
        row = b"%d,%b" % (line.number, line.text or b"")
        self._digest.update(b"[%b]" % row)
        header = msgspec.json.encode(line.header and msgspec.structs.astuple(line.header))
        self._part.append(b"[%b,%b]" % (row, header))
        self._part_bytes += len(self._part[-1])

    async def _store_part(self) -> None:
        """Known before it is stored, so that it is deleted whatever happens."""
        if not self._part:
            return
        part, place = len(self._starts), self._total - len(self._part)
        await self._services.batches.grow(self._batch_id, part + 1)
        key = part_key(self._caller.tenant, self._batch_id, part)
        await self._services.storage.put(key, b"\n".join(self._part), "application/jsonl")
        self._starts.append(place)
        self._part.clear()
        self._part_bytes = 0


def _is_long_inline(asked: TaskRequest) -> bool:
    url = asked.input.image_url or ""
    return is_inline(url) and is_long(url)


@contextmanager
def _noting(line: _Line) -> Iterator[None]:
    """What is wrong with a line is a finding."""
    try:
        yield
    except StoreUnavailable:
        raise
    except PenstockError as error:
        line.error = error


def line_of(text: bytes | msgspec.Raw) -> Any:
    """A BatchLine. Raises InvalidRequest."""
    try:
        return decode_plain(bytes(text), BatchLine)
    except MalformedRequest as error:
        raise InvalidRequest("the line is not JSON, or is nested too deeply") from error


def task_of(line: Any, defaults: Any) -> TaskRequest:
    """The task that a line asks for, with what the batch says of all. Raises InvalidRequest."""
    said: dict[str, Any] = {"priority": Priority.LOW}
    for source in (defaults, line):
        for name in BatchDefaults.__struct_fields__:
            value = getattr(source, name)
            if value is not UNSET:
                said[name] = value
    for name in ("model", "input"):
        if name not in said:
            raise InvalidRequest(f"neither the line nor the defaults have `{name}`", param=name)
    return TaskRequest(**said)


def defaults_of(said: dict[str, Any]) -> Any:
    """A BatchDefaults. Raises InvalidRequest."""
    return convert(said, BatchDefaults, inside="defaults")


def check_defaults(defaults: Any, policy: Policy) -> None:
    """What no line has to use is right all the same. Raises InvalidRequest, UrlBlocked."""
    url = defaults.input.image_url if defaults.input else UNSET
    if not url or is_inline(url):
        return
    try:
        refuse_bare_base64(url)
        check_input(url, policy)
    except (InvalidRequest, UrlBlocked) as error:
        error.param = "defaults.input.image_url"
        raise


def rows_of(part: bytes) -> list[StoredLine]:
    """The lines of a stored part. Raises ResultExpired when it is damaged: then it is as good as gone."""
    try:
        return [msgspec.json.decode(row, type=StoredLine) for row in part.split(b"\n")]
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ResultExpired("the stored lines of this batch are damaged") from error


async def sliced(rows: Iterable[msgspec.Raw]) -> AsyncGenerator[Sequence[tuple[int, Text]], None]:
    """Lines that are here, numbered."""
    some: list[tuple[int, Text]] = []
    for number, row in enumerate(rows, 1):
        text = bytes(row)
        some.append((number, None if len(text) > MAX_LINE_BYTES else _on_one_line(text)))
        if len(some) == SLICE:
            yield some
            some = []
    yield some


async def split(pieces: AsyncIterator[bytes], max_bytes: int) -> AsyncGenerator[Sequence[tuple[int, Text]], None]:
    """Lines of a file that comes piece by piece, numbered; empty ones are left out, but counted. Files that were put
    together may have a byte order mark in front of any line.

    Raises PayloadTooLarge when all of it is longer than `max_bytes`, InvalidRequest when it has too many lines.
    """
    number, size, rest, is_too_long = 0, 0, b"", False
    some: list[tuple[int, Text]] = []
    held = 0
    async for piece in _ended(pieces):
        size += len(piece)
        if size > max_bytes:
            raise PayloadTooLarge("the batch is over limits.max_batch_bytes")
        *whole, rest = (rest + piece).split(b"\n")
        if number + len(whole) > MAX_NUMBER:
            raise InvalidRequest(f"a batch has {MAX_LINES} lines at most, and as many empty ones", param="lines")
        for text in whole:
            number += 1
            if is_too_long or len(text) > MAX_LINE_BYTES:
                some.append((number, None))
            elif stripped := text.removeprefix(BYTE_ORDER_MARK).strip():
                some.append((number, stripped))
                held += len(stripped)
            is_too_long = False
            if len(some) == SLICE or held >= SLICE_BYTES:
                yield some
                some, held = [], 0
        if len(rest) > MAX_LINE_BYTES:
            rest, is_too_long = b"", True
    yield some


async def _ended(pieces: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """With a line break at the end: one more does no harm."""
    async for piece in pieces:
        yield piece
    yield b"\n"


def _on_one_line(text: bytes) -> bytes:
    return msgspec.json.format(text, indent=-1) if b"\n" in text else text


def _finding(number: int, text: Text, error: PenstockError) -> Finding:
    return Finding(
        param=error.param or "",
        detail=error.detail,
        code=error.code,
        line=number,
        custom_id=_name_of(text),
    )


class _Named(Struct):
    custom_id: str


def _name_of(text: Text) -> str | msgspec.UnsetType:
    """What a line that is wrong calls itself, if that much can be read."""
    try:
        return msgspec.json.decode(text or b"", type=_Named).custom_id[:128]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return UNSET


def _refusal(findings: list[Finding]) -> InvalidLines:
    count = len(findings)
    detail = f"{count} lines are wrong" if count != 1 else "one line is wrong"
    if count >= MAX_FINDINGS:
        detail = f"more than {MAX_FINDINGS - 1} lines are wrong; these are the first"
    return InvalidLines(f"{detail}; nothing is queued", tuple(findings[:MAX_FINDINGS]))
