"""Acts on all matching tasks. They share how tasks are found, so that none of them hits a task that the list hides."""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Annotated, Any, TypeVar
from urllib.parse import urlencode

from litestar.di import NamedDependency
from litestar.params import QueryParameter, SkipValidation
from loguru import logger
from msgspec import Struct

from penstock.api.auditing import AuditedAct, write_down_elsewhere
from penstock.api.http.auth import ApiRequest
from penstock.api.http.cursors import Cursors
from penstock.api.http.filters import Filter, TaskFilter
from penstock.api.services import Services, ServicesDep
from penstock.core.task import State
from penstock.errors import InvalidRequest, QuotaExceeded, ResultExpired, TaskAlreadyFinal, TaskNotFound
from penstock.store.answers import Matching

T = TypeVar("T")

ROUNDS = 20
"""How often one request examines the next 1,000 tasks: about a second of work if hardly any of them matches."""

WRITTEN_AS: dict[str, AuditedAct] = {
    "canceled": "tasks.cancel",
    "deleted": "tasks.delete",
    "retried": "tasks.retry",
}

TERMS = {"tenant", "all", "dry_run", "limit", "cursor"}
"""Parameters of an act that say nothing about which tasks match."""

MOST_WRITTEN = 500
"""Characters of a filter that the audit keeps."""

SHOWN = 100
"""Most ids that an answer shows."""

CONTINUE = (
    "If `status` is the only filter, it needs `all=true`. With `dry_run=true` nothing is changed, and the answer says "
    "which tasks would be hit. While `has_more`, continue with `cursor=next_cursor`."
)
"""The end of each act's description."""

Act = Callable[[Sequence[str], tuple[State, ...], str, Services], Awaitable[int]]
"""Acts on the tasks with these ids, of this tenant, that are still in one of these states; returns how many it hit."""

DryRun = Annotated[
    bool, QueryParameter(description="change nothing: `matched` and `task_ids` say which tasks would be hit")
]


class BulkAct(Struct, frozen=True, kw_only=True):
    """A request for an act: its filter, its terms, and the parts of the server that it needs."""

    task_filter: TaskFilter
    dry_run: bool
    may_hit_all: bool
    request: ApiRequest
    services: Services
    cursors: Cursors

    async def run(self, act: Act, done: str, status: Sequence[str], *, limit: int) -> dict[str, Any]:
        """Act on the newest `limit` tasks in these states that match, and return the members of the answer.

        `done` is the member with the number of tasks that were hit. Raises InvalidRequest for a request without a
        filter that does not say `all=true`.
        """
        states = tuple(dict.fromkeys(map(State, status)))
        matching = await self._find(states, limit)
        is_done = bool(matching.ids) and not self.dry_run
        if is_done:  # written down first: an act that breaks off half-way, or at its files, has hit tasks all the same
            found = {"matched": len(matching.ids)}
            await write_down_elsewhere(WRITTEN_AS[done], self._which, self.request, self.services, **found)
        count = await act(matching.ids, states, self.request.auth.tenant, self.services) if is_done else 0
        logger.bind(status=status, matched=len(matching.ids), **{done: count}).info(f"tasks {done} by filter")
        return {
            done: count,
            "matched": len(matching.ids),
            "task_ids": tuple(matching.ids[:SHOWN]),
            "dry_run": self.dry_run,
            "has_more": matching.next_before is not None,
            "next_cursor": None if matching.next_before is None else self._cursor(matching.next_before),
        }

    @property
    def _which(self) -> str:
        """The filter as the client has written it, in the order of its names."""
        said = sorted(self.request.query_params.multi_items())
        return urlencode([(name, value) for name, value in said if name not in TERMS])[:MOST_WRITTEN]

    def _cursor(self, before: int) -> str:
        return self.cursors.write(before, self.request.auth.tenant)

    async def _find(self, states: tuple[State, ...], limit: int) -> Matching:
        if not self.task_filter.leaves_out and not self.may_hit_all:
            raise InvalidRequest(
                "`status` alone would hit every such task: send all=true, or another filter", param="all"
            )
        return await self.services.store.listing.matching(
            self.request.auth.tenant,
            states=states,
            limit=limit,
            rounds=ROUNDS,
            **self.task_filter.which(self.services.models),
        )


BulkDep = NamedDependency[SkipValidation[BulkAct]]
"""The type of a handler's parameter `bulk`."""


async def bulk_of(
    request: ApiRequest,
    services: ServicesDep,
    task_filter: Filter,
    dry_run: DryRun = False,
    all_: Annotated[bool, QueryParameter(name="all", description="needed if `status` is the only filter")] = False,
) -> BulkAct:
    """Read the filter and the terms of an act from the query."""
    return BulkAct(
        task_filter=task_filter,
        dry_run=dry_run,
        may_hit_all=all_,
        request=request,
        services=services,
        cursors=request.app.state.cursors,
    )


async def count_each(tasks: Iterable[T], act: Callable[[T], Awaitable[bool]]) -> int:
    """Act on each task in turn and count those that were hit. A task that has moved on or is gone is skipped; a quota
    that allows no more ends it. Raises QuotaExceeded where it allows none."""
    count = 0
    for task in tasks:
        try:
            count += await act(task)
        except (ResultExpired, TaskAlreadyFinal, TaskNotFound):
            continue
        except QuotaExceeded:
            if not count:
                raise
            break
    return count
