"""The filter of tasks in a query, which the list and every act on matching tasks share."""

from datetime import datetime
from typing import Annotated

import msgspec
from litestar.di import NamedDependency
from litestar.params import FromQuery, QueryParameter, SkipValidation
from msgspec import Meta, Struct

from penstock.api.http.auth import ApiRequest
from penstock.api.http.query import METADATA
from penstock.core.task import Priority
from penstock.errors import InvalidRequest
from penstock.intake.models import Catalogue
from penstock.store.listing import Filters

Moment = Annotated[str | None, QueryParameter(format="date-time", description="RFC 3339, with its zone")]
"""A string, because Litestar would also accept a number for a datetime."""

Cursor = Annotated[str | None, QueryParameter(format="cursor", description="`next_cursor` of the answer before")]


class TaskFilter(Struct, frozen=True, kw_only=True):
    """What a task must have to match; None, and empty metadata, match every task. Moments are in µs since 1970."""

    model: str | None
    priority: Priority | None
    batch: str | None
    key: str | None = None
    error_code: str | None = None
    id_prefix: str | None = None
    metadata: dict[str, str]
    created_after: int | None
    created_before: int | None
    cursor: int | None

    @property
    def leaves_out(self) -> bool:
        """Return whether there is any condition but the cursor, which only continues a list."""
        named = (self.model, self.priority, self.batch, self.key, self.error_code, self.id_prefix)
        times = (self.created_after, self.created_before)
        return bool(self.metadata) or any(value is not None for value in (*named, *times))

    def which(self, models: Catalogue) -> Filters:
        """Return the filter as the store takes it, which knows models by their ids."""
        bounds = [bound for bound in (self.created_before, self.cursor) if bound is not None]
        return Filters(
            model=None if self.model is None else models.id_of(self.model),
            priority=self.priority,
            metadata=self.metadata,
            batch=self.batch,
            caller=self.key,
            error_code=self.error_code,
            id_prefix=self.id_prefix or "",
            after=self.created_after,
            before=min(bounds, default=None),
        )


Filter = NamedDependency[SkipValidation[TaskFilter]]
"""The type of a handler's parameter `task_filter`."""


async def filter_of(
    request: ApiRequest,
    model: FromQuery[str | None] = None,
    priority: FromQuery[Priority | None] = None,
    batch_id: FromQuery[str | None] = None,
    key: Annotated[str | None, QueryParameter(description="the name of the API key that submitted the task")] = None,
    error_code: Annotated[str | None, QueryParameter(description="the code of the error with which it ended")] = None,
    id_prefix: Annotated[str | None, QueryParameter(description="the beginning of its id, such as tsk_019a9f")] = None,
    metadata: Annotated[  # noqa: ARG001  declares the parameters; their names are in the query only
        str | None, QueryParameter(name=METADATA, description="`metadata.<key>=<value>`: tasks with that entry")
    ] = None,
    created_after: Moment = None,
    created_before: Moment = None,
    cursor: Cursor = None,
) -> TaskFilter:
    """Read the filter from the query. Raises InvalidRequest."""
    return TaskFilter(
        model=model,
        priority=priority,
        batch=batch_id,
        key=key,
        error_code=error_code,
        id_prefix=id_prefix,
        metadata={k.removeprefix(METADATA): v for k, v in request.query_params.items() if k.startswith(METADATA)},
        created_after=_micros(created_after, "created_after"),
        created_before=_micros(created_before, "created_before"),
        cursor=None if cursor is None else request.app.state.cursors.read(cursor, request.auth.tenant),
    )


def _micros(moment: str | None, param: str) -> int | None:
    if moment is None:
        return None
    try:
        found: datetime = msgspec.convert(moment, Annotated[datetime, Meta(tz=True)])
    except msgspec.ValidationError as error:
        raise InvalidRequest("give a moment with its zone, such as 2026-11-22T10:00:00Z", param=param) from error
    return round(found.timestamp() * 1_000_000)
