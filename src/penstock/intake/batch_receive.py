"""The lines of a new batch are checked and written to the storage in parts.

All are checked before the batch is acknowledged. Checking happens on the event loop in slices of a few lines: a thread
would take the interpreter's lock for longer, and slower.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import msgspec
from msgspec import Struct

from penstock.core.access import Caller
from penstock.core.batch import part_key
from penstock.errors import InvalidRequest, NotReady, PenstockError, StoreUnavailable
from penstock.intake.batch_lines import MAX_LINE_BYTES, Slices, Text, line_of, readable_custom_id, task_of
from penstock.intake.call import SubmitCall, checked_call
from penstock.intake.deps import Deps
from penstock.intake.examine import examine, look_at
from penstock.intake.inline import is_long
from penstock.intake.parse import ON_LOOP_BYTES, Finding, InvalidLines
from penstock.intake.requests import MAX_LINES, BatchDefaults
from penstock.intake.webhook import webhook_of
from penstock.pixels.headers import ImageHeader

SLICE_S = 0.002
"""Others have their turn when the lines of a slice have taken so long."""
PART_LINES, PART_BYTES = 1_000, 1024 * 1024
"""A part is full when it has either."""
MAX_FINDINGS = 100


class Received(Struct, frozen=True, kw_only=True):
    """How many lines came, the place of the first line of each part and how many of its lines are of which model, a
    digest of all lines, and the version of each model of which lines name none."""

    total: int
    starts: tuple[int, ...]
    models: tuple[dict[str, int], ...]
    digest: str
    versions: dict[str, str]


class _Line(Struct, eq=False):
    """A line that is being checked; it has a `call` as soon as it was read without an error."""

    number: int
    text: Text
    call: SubmitCall | None = None
    header: ImageHeader | None = None
    error: PenstockError | None = None


class Receiver:
    """Checks and stores the lines of one batch."""

    def __init__(self, batch_id: str, defaults: BatchDefaults, caller: Caller, base_url: str, deps: Deps) -> None:
        self._batch_id = batch_id
        self._defaults = defaults
        self._caller = caller
        self._base_url = base_url
        self._deps = deps
        self._seen: set[str] = set()
        self._findings: list[Finding] = []
        self._digest = hashlib.sha256()
        self._part: list[bytes] = []
        self._part_bytes = 0
        self._part_models: Counter[str] = Counter()
        self._stored_bytes = 0
        self._starts: list[int] = []
        self._models: list[dict[str, int]] = []
        self._total = 0
        self._versions: dict[str, str] = {}

    async def receive(self, slices: Slices) -> Received:
        """Check and store all lines. After `MAX_FINDINGS` wrong lines the others are read, but not looked at.

        Raises InvalidLines when any line is wrong, InvalidRequest when there are none or too many, NotReady,
        QuotaExceeded, StorageUnavailable, StoreUnavailable.
        """
        await self._deps.models.read()
        async for lines in slices:
            if len(self._findings) >= MAX_FINDINGS:
                continue
            async with self._deps.checking:
                await self._check_slice(lines)
            await asyncio.sleep(0)  # requests that came meanwhile have their turn before the next slice
            if not self._findings and (len(self._part) >= PART_LINES or self._part_bytes >= PART_BYTES):
                await self._store_part()
        if self._findings:
            raise _refusal(self._findings)
        if not self._total:
            raise InvalidRequest("a batch needs at least one line", param="lines")
        await self._store_part()
        return Received(
            total=self._total,
            starts=tuple(self._starts),
            models=tuple(self._models),
            digest=self._digest.hexdigest(),
            versions=self._versions,
        )

    async def _check_slice(self, numbered: Sequence[tuple[int, Text]]) -> None:
        self._began = time.perf_counter()
        self._total += len(numbered)
        if self._total > MAX_LINES:
            raise InvalidRequest(f"a batch has {MAX_LINES} lines at most", param="lines")
        lines = [_Line(number, text) for number, text in numbered]
        for line in lines:
            with _noting(line):
                is_short = len(line.text or b"") <= ON_LOOP_BYTES
                line.call = self._read(line) if is_short else await asyncio.to_thread(self._read, line)
            await self._let_others()
        # One hop to a thread for all long images: the base64 of megabytes would hold up every other request.
        if long := [line for line in lines if line.call and _is_long_inline(line.call)]:
            await asyncio.to_thread(self._look_at, long)
        for line in lines:
            if line.error is None and line.header is None:
                with _noting(line):
                    await self._examine(line)
                await self._let_others()
            self._keep(line)

    async def _let_others(self) -> None:
        if time.perf_counter() - self._began > SLICE_S:
            await asyncio.sleep(0)
            self._began = time.perf_counter()

    def _read(self, line: _Line) -> SubmitCall:
        if line.text is None:
            raise InvalidRequest(f"the line is longer than {MAX_LINE_BYTES} bytes")
        read = line_of(line.text)
        if read.custom_id in self._seen:
            raise InvalidRequest("another line has this custom_id", param="custom_id")
        self._seen.add(read.custom_id)
        task = task_of(read, self._defaults)
        call = checked_call(task, self._deps.models, caller=self._caller, base_url=self._base_url, traceparent="")
        if call.model.versioned:  # a default that is switched meanwhile is not that of this batch
            self._versions.setdefault(task.model, call.model.id)
        webhook_of(task.webhook, self._deps, base_url=self._base_url)
        return call

    def _look_at(self, lines: Sequence[_Line]) -> None:
        for line in lines:
            with _noting(line):
                assert line.call is not None  # noqa: S101  no error is noted
                line.header = look_at(line.call, self._deps.settings).header

    async def _examine(self, line: _Line) -> None:
        call = line.call
        assert call is not None  # noqa: S101  no error is noted
        if call.inline_image is not None:
            self._look_at([line])
        else:
            await examine(call, self._deps)

    def _keep(self, line: _Line) -> None:
        if line.error is not None:
            self._findings.append(_finding(line, line.error))
            return
        row = b"%d,%b" % (line.number, line.text or b"")
        self._digest.update(b"[%b]" % row)
        seen = line.header
        header = msgspec.json.encode(seen and (seen.format, seen.width, seen.height))
        self._part.append(b"[%b,%b]" % (row, header))
        self._part_bytes += len(self._part[-1])
        assert line.call is not None  # noqa: S101  no error is noted
        self._part_models[line.call.model.id] += 1

    async def _store_part(self) -> None:
        """Store the part under a key that Redis knows already, so that it is deleted whatever happens."""
        if not self._part:
            return
        part, place = len(self._starts), self._total - len(self._part)
        data = b"\n".join(self._part)
        self._stored_bytes += len(data)
        quotas = self._deps.quotas_of(self._caller.tenant)
        await self._deps.store.batches.grow(self._batch_id, part + 1, self._stored_bytes, quotas=quotas)
        await self._deps.storage.put(part_key(self._caller.tenant, self._batch_id, part), data, "application/jsonl")
        self._starts.append(place)
        self._models.append(dict(self._part_models))
        self._part.clear()
        self._part_models.clear()
        self._part_bytes = 0


def _is_long_inline(call: SubmitCall) -> bool:
    image = call.inline_image
    return image is not None and is_long(image)


@contextmanager
def _noting(line: _Line) -> Iterator[None]:
    """Keep what is wrong with a line for its finding; without Redis or models no line is right or wrong."""
    try:
        yield
    except (NotReady, StoreUnavailable):
        raise
    except PenstockError as error:
        line.error = error


def _finding(line: _Line, error: PenstockError) -> Finding:
    return Finding(
        param=error.param or "",
        detail=error.detail,
        code=error.code,
        line=line.number,
        custom_id=readable_custom_id(line.text),
    )


def _refusal(findings: list[Finding]) -> InvalidLines:
    count = len(findings)
    detail = f"{count} lines are wrong" if count != 1 else "one line is wrong"
    if count >= MAX_FINDINGS:
        detail = f"more than {MAX_FINDINGS - 1} lines are wrong; these are the first"
    return InvalidLines(f"{detail}; nothing is queued", tuple(findings[:MAX_FINDINGS]))
