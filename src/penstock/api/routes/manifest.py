"""The manifest of a batch: how each line has ended, as JSONL, piece by piece."""

from collections import OrderedDict
from collections.abc import AsyncGenerator

import msgspec
from msgspec import Struct

from penstock.api.schemas.batches import LineResultView, LineView
from penstock.api.schemas.render import error_view, links
from penstock.api.schemas.tasks import ErrorView
from penstock.api.services import Services
from penstock.core.batch import Batch, End, part_key, task_id_of
from penstock.core.task import Outcome, State
from penstock.errors import codes
from penstock.intake.batch_lines import rows_of

TOGETHER = 100
"""Lines read in one round trip."""
PARTS_KEPT = 4
"""Lines end in about the order in which they were fed: so few parts are in use at a time."""


class _Named(Struct):
    custom_id: str


class Names:
    """Number and `custom_id` of the line at each place, read from the storage part by part."""

    def __init__(self, batch: Batch, services: Services) -> None:
        self._batch = batch
        self._storage = services.storage
        self._parts: OrderedDict[int, list[tuple[int, str]]] = OrderedDict()

    async def of(self, place: int) -> tuple[int, str]:
        """Raises ResultExpired when the lines are gone, StorageUnavailable."""
        part = self._batch.part_of(place)
        if part not in self._parts:
            self._parts[part] = await self._read(part)
            if len(self._parts) > PARTS_KEPT:
                self._parts.popitem(last=False)
        self._parts.move_to_end(part)
        return self._parts[part][place - self._batch.plan.starts[part]]

    async def _read(self, part: int) -> list[tuple[int, str]]:
        rows = rows_of(await self._storage.get(part_key(self._batch.tenant, self._batch.id, part)))
        return [(row.number, msgspec.json.decode(row.text, type=_Named).custom_id) for row in rows]


async def manifest(batch: Batch, services: Services, base_url: str, *, start: int) -> AsyncGenerator[bytes, None]:
    """The lines that had ended when the batch was read, but for the first `start`.

    Raises StoreUnavailable, StorageUnavailable, ResultExpired between pieces: what was sent so far is right.
    """
    names = Names(batch, services)
    encoder = msgspec.json.Encoder()
    while ends := await services.batches.ends(batch.id, start, TOGETHER):
        start += len(ends)
        ids = [task_id_of(batch.id, end.place) for end in ends]
        outcomes = await services.batches.outcomes(ids)
        views = [
            _view(end, task_id, outcome, await names.of(end.place), base_url)
            for end, task_id, outcome in zip(ends, ids, outcomes, strict=True)
        ]
        yield encoder.encode_lines(views)


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
    file = result.artifact if result else None
    return LineResultView(
        url=url,
        content_type=file.content_type if file else "application/json" if result else None,
        size=file.size if file else None,
        sha256=file.sha256 if file else None,
        width=file.width if file else None,
        height=file.height if file else None,
        data=result.data if result else None,
    )


def _error(end: End, outcome: Outcome | None) -> ErrorView | None:
    """As its task has it; of one that is gone, or has never been, what its code says."""
    if end.code is None:
        return None
    if outcome and outcome.error and outcome.error.code == end.code:
        return error_view(outcome.error)
    known = codes().get(end.code)
    return ErrorView(
        code=end.code, message=known.title if known else end.code, retryable=bool(known and known.retryable)
    )
