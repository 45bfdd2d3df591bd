"""Acts on all tasks that match. They share one selection, so that none of them hits a task that the list hides."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import suppress
from typing import Annotated, Generic, TypeVar

from litestar.di import NamedDependency
from litestar.params import QueryParameter, SkipValidation
from loguru import logger
from msgspec import Struct

from penstock.api.http.auth import ApiRequest
from penstock.api.http.filters import TaskFilter
from penstock.api.schemas.tasks import BulkView
from penstock.api.services import Services
from penstock.core.task import State
from penstock.errors import InvalidRequest, ResultExpired, TaskAlreadyFinal, TaskNotFound

T = TypeVar("T")
V = TypeVar("V", bound=BulkView)

ROUNDS = 20
"""How often one request looks at the next 1,000 tasks: about a second of work where hardly any of them matches."""

SHOWN = 100
"""How many ids an answer shows."""

GO_ON = (
    "Where `status` is the only filter it needs `all=true`. With `dry_run=true` nothing is changed, and the answer "
    "says what would be. While `has_more`, go on with `cursor=next_cursor`."
)
"""The end of the description of each act."""

DryRun = Annotated[bool, QueryParameter(description="change nothing; `matched` and `task_ids` say what would be")]


class BulkTerms(Struct, frozen=True, kw_only=True):
    """The terms of an act; `may_hit_all` has to be true where a status is the only filter."""

    dry_run: bool
    may_hit_all: bool


Terms = NamedDependency[SkipValidation[BulkTerms]]
"""The type of a handler's parameter `terms`."""


async def terms_of(
    dry_run: DryRun = False,
    all_: Annotated[
        bool, QueryParameter(name="all", description="has to be true where `status` is the only filter")
    ] = False,
) -> BulkTerms:
    """Read the terms from the query."""
    return BulkTerms(dry_run=dry_run, may_hit_all=all_)


class Act(Struct, Generic[V], frozen=True):
    """What is done to tasks that match: `do` is given their ids, the states in which they may be, and the tenant, and
    returns how many it has hit. `verb` is the member of the `view`, and the word in the log, that has their number."""

    verb: str
    view: type[V]
    do: Callable[[Sequence[str], tuple[State, ...], str, Services], Awaitable[int]]


async def act_on_matching(
    act: Act[V],
    status: Sequence[str],
    task_filter: TaskFilter,
    terms: BulkTerms,
    *,
    limit: int,
    request: ApiRequest,
    services: Services,
) -> V:
    """Do the act to the newest `limit` tasks in these states that pass the filter, as the list has them, and return its
    view. With `dry_run` nothing is done.

    Raises InvalidRequest where every task of these states would be hit and nobody said so.
    """
    if not task_filter.leaves_out and not terms.may_hit_all:
        raise InvalidRequest(
            "with `status` as the only filter every such task is meant: send all=true, or another filter", param="all"
        )
    tenant, states = request.auth.tenant, tuple(dict.fromkeys(map(State, status)))
    matching = await services.store.listing.matching(
        tenant, states=states, limit=limit, rounds=ROUNDS, **task_filter.which()
    )
    hit = 0 if terms.dry_run else await act.do(matching.ids, states, tenant, services)
    log = logger.bind(status=status, matched=len(matching.ids), **{act.verb: hit})
    log.info(f"tasks {act.verb} by filter")
    before = matching.next_before
    return act.view(
        matched=len(matching.ids),
        task_ids=tuple(matching.ids[:SHOWN]),
        dry_run=terms.dry_run,
        has_more=before is not None,
        next_cursor=None if before is None else request.app.state.cursors.write(before),
        **{act.verb: hit},
    )


async def count_each(tasks: Iterable[T], do: Callable[[T], Awaitable[bool]]) -> int:
    """Count the tasks to which something is done. A task that has moved on or is gone by its turn is passed over."""
    count = 0
    for task in tasks:
        with suppress(ResultExpired, TaskAlreadyFinal, TaskNotFound):
            count += await do(task)
    return count
