"""What a list of tasks is asked for: the filter of the API, which also names the tasks of its acts."""

import time
from collections.abc import Mapping
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from penstock.api.http.filters import TaskFilter
from penstock.api.http.query import METADATA
from penstock.api.schemas.render import moment
from penstock.core.task import State
from penstock.errors import InvalidRequest

PERIODS = {"15m": 900, "1h": 3600, "24h": 86_400, "7d": 604_800}
"""Words for the time since when tasks were created -> seconds."""


class TaskQuery(Struct, frozen=True):
    """The filter as the API reads it, the statuses, and the parameters of the page as they were given."""

    task_filter: TaskFilter
    status: tuple[State, ...]
    given: Mapping[str, Any]

    @property
    def has_cursor(self) -> bool:
        """Return whether it is a later page of the list."""
        return self.task_filter.cursor is not None

    @property
    def more_in_use(self) -> int:
        """Return how many of the fields are set that the form folds away."""
        return len(self.given.keys() - {"status", "model", "within", "cursor", "tenant"})

    def api(self) -> dict[str, Any]:
        """Return the same filter as parameters of the API, without `status` and `cursor`."""
        wanted, when = self.task_filter, (self.task_filter.created_after, self.task_filter.created_before)
        after, before = (None if at is None else moment(at // 1000) for at in when)
        named = {
            "model": wanted.model,
            "priority": wanted.priority,
            "batch_id": wanted.batch,
            "key": wanted.key,
            "error_code": wanted.error_code,
            "id_prefix": wanted.id_prefix,
            "created_after": after,
            "created_before": before,
        }
        return named | {f"{METADATA}{name}": value for name, value in wanted.metadata.items()}


def query_of(
    task_filter: TaskFilter, status: list[State] | None, within: str, entry: str, given: Mapping[str, Any]
) -> TaskQuery:
    """Return the query of a page: `within` is a word of PERIODS, and `entry` an entry of the metadata, `name=value`.

    Raises InvalidRequest.
    """
    if within:
        if within not in PERIODS:
            raise InvalidRequest(f"known are {', '.join(PERIODS)}", param="within")
        since_us = int((time.time() - PERIODS[within]) * 1_000_000)
        task_filter = replace(task_filter, created_after=max(since_us, task_filter.created_after or 0))
    if entry:
        name, found, value = entry.partition("=")
        if not found:
            raise InvalidRequest("write an entry of the metadata as name=value", param="entry")
        task_filter = replace(task_filter, metadata={**task_filter.metadata, name.strip(): value.strip()})
    return TaskQuery(task_filter, tuple(dict.fromkeys(status or ())), given)
