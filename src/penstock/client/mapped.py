"""The outcome of one source of `map`: errors are values, so that one bad source does not end the others."""

from typing import TYPE_CHECKING

from msgspec import Struct

from penstock.client.problems import PenstockApiError, failure_of
from penstock.client.requests import Shared, Source
from penstock.client.views import Task

if TYPE_CHECKING:
    from penstock.client.asynchronous import AsyncClient


class Mapped(Struct, frozen=True, kw_only=True):
    """The outcome of one source of `map`: the task if it succeeded, else the error, and the task too if one ran."""

    source: Source
    task: Task | None = None
    error: PenstockApiError | OSError | TypeError | ValueError | None = None


async def outcome_of(client: "AsyncClient", source: Source, model: str, options: Shared) -> Mapped:
    """Runs one source of `map`. Errors of this source are part of the outcome; RuntimeError of a closed client is
    raised."""
    try:
        task = await client.wait((await client.submit(source, model, **options)).task_id)
    except (PenstockApiError, OSError, TypeError, ValueError) as error:
        return Mapped(source=source, error=error)
    return Mapped(source=source, task=task, error=failure_of(task))
