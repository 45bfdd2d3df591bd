"""Ids by their beginning, as tables show them: which task, batch or upload a person means."""

import string
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import click

from penstock.core.batch import task_id_of

if TYPE_CHECKING:
    from penstock.client import AsyncClient, Batch

TASK, BATCH = "tsk_", "bat_"

DIGITS, OF_TIME = 32, 12
"""Hex digits of an id, and how many of them are the milliseconds in which it was made."""

LATER = timedelta(minutes=1)
"""A batch is written down after its lines were received."""

EARLIEST_S, LATEST_S = 86_400, 4_102_444_800
"""The moments that ids are looked for between, in seconds since 1970: until the year 2100."""

LOOKED_AT = 5000
"""Batches that are looked at for one beginning: some seconds at most."""

NAMED = 5
"""Ids that are named where several have the same beginning."""


async def whole_task_id(client: "AsyncClient", given: str) -> str:
    """Returns the id of the task that is meant; what cannot be the beginning of an id stays as it is, for the server to
    refuse. Raises click.ClickException for the beginning of no task, or of several."""
    beginning = beginning_of(given, TASK)
    if beginning is None:
        return given
    found = await _at_most(beginning, _tasks(client, beginning))
    return only(found, beginning, "task", "`penstock ls` lists them")


async def whole_batch_id(client: "AsyncClient", given: str) -> str:
    """Returns the id of the batch that is meant, as `whole_task_id` does."""
    beginning = beginning_of(given, BATCH)
    if beginning is None:
        return given
    found = await _at_most(beginning, (batch.batch_id async for batch in _batches(client, beginning)))
    return only(found, beginning, "batch", "`penstock batch ls` lists them")


def beginning_of(given: str, prefix: str) -> str | None:
    """Returns the beginning with its prefix; None for a whole id, and for what is none at all."""
    digits = given.removeprefix(prefix).lower()
    if not digits or len(digits) >= DIGITS or not set(digits) <= set(string.hexdigits):
        return None
    return prefix + digits


async def _at_most(beginning: str, ids: AsyncGenerator[str, None]) -> list[str]:
    """Returns the ids with this beginning, one more than are named at most, since more say no more."""
    found: dict[str, None] = {}
    async with aclosing(ids):
        async for one in ids:
            if one.startswith(beginning):
                found[one] = None
            if len(found) > NAMED:
                break
    return list(found)


def only(found: list[str], beginning: str, what: str, advice: str) -> str:
    """Returns the one id that was found. Raises click.ClickException, with candidates, if there is none or several."""
    if len(found) == 1:
        return found[0]
    if not found:
        raise click.ClickException(f"no {what} has an id that begins with {beginning}; {advice}")
    candidates = [*found[:NAMED], *(["and others"] if len(found) > NAMED else [])]
    lines = "".join(f"\n  {one}" for one in candidates)
    raise click.ClickException(f"{beginning} is the beginning of several ids; give more of it:{lines}")


async def _tasks(client: "AsyncClient", beginning: str) -> AsyncGenerator[str, None]:
    """Yields the tasks that the server finds in the time that the beginning stands for, and those of the batches of
    that time, whose lines become tasks later."""
    async with aclosing(client.list(id_prefix=beginning)) as tasks:
        async for task in tasks:
            yield task.task_id
    digits = beginning.removeprefix(TASK)
    of_time = digits[:OF_TIME]
    async for batch in _batches(client, BATCH + of_time):
        if batch.batch_id.startswith(BATCH + of_time):
            for one in _with(beginning, batch):
                yield one


def _with(beginning: str, batch: "Batch") -> Iterable[str]:
    """Yields the ids of the lines of a batch that have the beginning. They follow from the batch's own."""
    ids = (task_id_of(batch.batch_id, place) for place in range(batch.counts.total))
    return (one for one in ids if one.startswith(beginning))


async def _batches(client: "AsyncClient", beginning: str) -> AsyncGenerator["Batch", None]:
    first = _first_moment(beginning.removeprefix(BATCH))
    looked_at = 0
    async with aclosing(client.batches()) as batches:
        async for batch in batches:
            if datetime.fromisoformat(batch.created_at) < first - LATER:
                return
            yield batch
            looked_at += 1
            if looked_at == LOOKED_AT:
                raise click.ClickException(f"{beginning} is older than {LOOKED_AT:,} batches: give the whole id")


def _first_moment(digits: str) -> datetime:
    """Returns the first moment in which an id with these first digits can have been made."""
    ms = int(digits[:OF_TIME].ljust(OF_TIME, "0"), 16)
    return datetime.fromtimestamp(min(max(ms / 1000, EARLIEST_S), LATEST_S), UTC)
