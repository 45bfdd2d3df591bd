"""/v1/batches/{id}/results: how each line of a batch has ended, as JSONL, piece by piece."""

from collections import OrderedDict
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

import msgspec
from litestar import get
from litestar.params import FromPath, QueryParameter
from litestar.response import Stream

from penstock.api.http.auth import ApiRequest
from penstock.api.http.contents import BINARY, component, describe
from penstock.api.http.problems import documented
from penstock.api.http.scopes import OF_ANY_TENANT, READ
from penstock.api.schemas.batches import JSONL, LineResultView, LineView
from penstock.api.schemas.render import error_view, files_view, links
from penstock.api.schemas.tasks import ErrorView
from penstock.api.services import Services, ServicesDep
from penstock.core.batch import Batch, End, part_key, task_id_of
from penstock.core.task import Outcome, State
from penstock.errors import BatchNotFound, InvalidRequest, ResultExpired, StorageUnavailable, codes
from penstock.intake.batch_lines import custom_id_of, rows_of

TOGETHER = 100
"""Lines read in one round trip."""
PARTS_KEPT = 4
"""Lines end in about the order in which they were fed, so that few parts are in use at a time."""


@get(
    "/batches/{batch_id:str}/results",
    operation_id="getBatchResults",
    tags=["batches"],
    summary="Read how the lines of a batch have ended",
    description="Answers with JSONL: a LineView for each line that has ended by now, in the order of their ends. It "
    "can be read while the batch runs: go on with `start`, the number of lines that are known. A line whose task was "
    "retried comes once more when it has ended again. Clients whose `Accept` prefers application/x-ndjson get the same "
    "bytes under that media type.",
    opt=READ
    | OF_ANY_TENANT
    | describe(answers={200: dict.fromkeys(JSONL, BINARY | {"contentSchema": component("LineView")})}),
    responses=documented(BatchNotFound, ResultExpired, InvalidRequest, StorageUnavailable),
)
async def read_results(
    request: ApiRequest,
    services: ServicesDep,
    batch_id: FromPath[str],
    start: Annotated[int, QueryParameter(ge=0, le=2**53, description="how many lines to leave out")] = 0,
) -> Stream:
    """Streams the lines: 50,000 of them are never in memory at once. An error before the first is answered as such."""
    batch = await services.store.batches.batch(batch_id, request.auth.tenant)
    rows = manifest(batch, services, str(request.base_url), start=start)
    first = await anext(rows, b"")
    media_type = request.accept.best_match(list(JSONL), default=JSONL[0])
    return Stream(_after(first, rows), media_type=media_type, headers={"Vary": "Accept"})


async def _after(first: bytes, others: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(others):
        yield first
        async for piece in others:
            yield piece


class _Names:
    """The number and the `custom_id` of each line, read from the storage part by part."""

    def __init__(self, batch: Batch, services: Services) -> None:
        self._batch = batch
        self._storage = services.storage
        self._parts: OrderedDict[int, list[tuple[int, str]]] = OrderedDict()

    async def of(self, place: int) -> tuple[int, str]:
        """Return both for the line of this place. Raises ResultExpired when the lines are gone, StorageUnavailable."""
        part = self._batch.part_of(place)
        if part not in self._parts:
            self._parts[part] = await self._read(part)
            if len(self._parts) > PARTS_KEPT:
                self._parts.popitem(last=False)
        self._parts.move_to_end(part)
        return self._parts[part][place - self._batch.plan.starts[part]]

    async def _read(self, part: int) -> list[tuple[int, str]]:
        rows = rows_of(await self._storage.get(part_key(self._batch.tenant, self._batch.id, part)))
        return [(row.number, custom_id_of(row.text)) for row in rows]


async def manifest(batch: Batch, services: Services, base_url: str, *, start: int) -> AsyncGenerator[bytes, None]:
    """Yield the lines that had ended when the batch was read, but for the first `start`.

    Raises StoreUnavailable, StorageUnavailable, ResultExpired between pieces; those before are right.
    """
    names = _Names(batch, services)
    encoder = msgspec.json.Encoder()
    batches = services.store.batches
    while ends := await batches.ends(batch.id, start, TOGETHER):
        start += len(ends)
        ids = [task_id_of(batch.id, end.place) for end in ends]
        outcomes = await batches.outcomes(ids)
        views = [
            _view(end, task_id, outcome, await names.of(end.place), base_url)
            for end, task_id, outcome in zip(ends, ids, outcomes, strict=True)
        ]
        yield encoder.encode_lines(views)
        batches = services.patient_store.batches  # what has begun can be broken off, but not refused


def _view(end: End, task_id: str, outcome: Outcome | None, name: tuple[int, str], base_url: str) -> LineView:
    number, custom_id = name
    return LineView(
        line=number,
        custom_id=custom_id,
        task_id=task_id if end.became_task else None,
        status=end.state,
        result=_result(task_id, outcome, base_url) if end.state is State.SUCCESS else None,
        error=_error(end, outcome),
    )


def _result(task_id: str, outcome: Outcome | None, base_url: str) -> LineResultView:
    """The link is to us, not to the storage: whoever follows it later gets one that is signed then."""
    url = base_url.rstrip("/") + links(task_id).result
    result = outcome.result if outcome else None
    file = result.first if result else None
    return LineResultView(
        url=url,
        content_type=file.content_type if file else "application/json" if result else None,
        size=file.size if file else None,
        sha256=file.sha256 if file else None,
        width=file.width if file else None,
        height=file.height if file else None,
        data=result.data if result else None,
        files=files_view(result, url) if result else (),
        notes=result.notes if result else (),
    )


def _error(end: End, outcome: Outcome | None) -> ErrorView | None:
    """Return the error of the task; of a task that is gone, or has never been, only what its code says is known."""
    if end.code is None:
        return None
    if outcome and outcome.error and outcome.error.code == end.code:
        return error_view(outcome.error)
    known = codes().get(end.code)
    return ErrorView(
        code=end.code, message=known.title if known else end.code, retryable=bool(known and known.retryable)
    )
