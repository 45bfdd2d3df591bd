"""Acts on all tasks that match: what they share, so that none of them hits another task than the list shows."""

from collections.abc import Sequence
from typing import Annotated, Any

from litestar.datastructures import State as AppState
from litestar.di import NamedDependency
from litestar.params import QueryParameter, SkipValidation
from msgspec import Struct

from penstock.api.http.auth import ApiRequest
from penstock.api.http.filters import TaskFilter
from penstock.api.services import Services
from penstock.core.task import State
from penstock.errors import InvalidRequest
from penstock.store.answers import Matching

ROUNDS = 20
"""Times that one request looks at the next 1,000 tasks: about a second of work where hardly any of them matches."""

SHOWN = 100
"""Ids that an answer shows."""

GO_ON = (
    "Without a filter but `status` it needs `all=true`. With `dry_run=true` nothing is changed, and the answer says "
    "what would be hit. While `has_more`, go on with `cursor=next_cursor`."
)
"""What the description of each act says."""


DryRun = Annotated[bool, QueryParameter(description="change nothing: `matched` and `task_ids` say what would be hit")]


class BulkTerms(Struct, frozen=True, kw_only=True):
    """On what terms an act is done; `may_hit_all` is said by a client that gives no filter but a status."""

    dry_run: bool
    may_hit_all: bool


Terms = NamedDependency[SkipValidation[BulkTerms]]
"""The type of a handler's parameter `terms`."""


async def terms_of(
    dry_run: DryRun = False,
    all_: Annotated[
        bool, QueryParameter(name="all", description="has to be true where there is no filter but `status`")
    ] = False,
) -> BulkTerms:
    """As the query has them."""
    return BulkTerms(dry_run=dry_run, may_hit_all=all_)


async def chosen(
    task_filter: TaskFilter,
    states: Sequence[str],
    terms: BulkTerms,
    *,
    limit: int,
    request: ApiRequest,
    services: Services,
) -> Matching:
    """The newest `limit` tasks in these states that pass the filter, as the list has them.

    Raises InvalidRequest where every task of these states would be hit and nobody said so.
    """
    if not task_filter.leaves_out and not terms.may_hit_all:
        raise InvalidRequest(
            "without a filter but `status` every such task is hit: say all=true, or filter", param="all"
        )
    wanted = tuple(dict.fromkeys(map(State, states)))
    return await services.store.listing.matching(
        request.auth.tenant, states=wanted, limit=limit, rounds=ROUNDS, **task_filter.which()
    )


def said(found: Matching, terms: BulkTerms, state: AppState) -> dict[str, Any]:
    """What the answers of all acts say of the tasks that were found."""
    return {
        "matched": len(found.ids),
        "task_ids": tuple(found.ids[:SHOWN]),
        "dry_run": terms.dry_run,
        "has_more": found.next_before is not None,
        "next_cursor": None if found.next_before is None else state.cursors.write(found.next_before),
    }
