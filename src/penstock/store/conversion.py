"""Conversion: brings what the release before has left in Redis into the form of this one, before anything else runs."""

from collections.abc import AsyncIterator, Sequence
from itertools import chain, product

from loguru import logger

from penstock.core.task import RECORD_VERSION, State
from penstock.errors import ConfigurationError
from penstock.store.engine import Engine
from penstock.store.keys import tenants_of

CONVERTED = 4
"""The one earlier version of records that a start converts. Its scripts and ours cannot run side by side: they keep the
attempts of a task, the clocks of pools and the pace of models elsewhere."""

PAGE = 400
"""Tasks that one call of a script converts, with four commands each."""


async def is_older(engine: Engine) -> bool:
    """Whether Redis holds what only the release before writes. Raises ConfigurationError for tasks of any other
    version, StoreUnavailable when Redis cannot be reached.

    Of each state and tenant the oldest task is looked at, which is the last that is converted.
    """
    found = await _oldest_versions(engine)
    if unknown := found - {CONVERTED, RECORD_VERSION}:
        raise ConfigurationError(
            f"Redis holds tasks of version {min(unknown)}, and this Penstock reads version {RECORD_VERSION}; let the "
            "Penstock that made them delete them, or take another redis.namespace or an empty up.data_dir"
        )
    return CONVERTED in found or await _has_keys_of_before(engine)


async def convert(engine: Engine) -> None:
    """Convert what the release before has left, if it has; what was interrupted goes on, and several processes may do
    so at once. Raises ConfigurationError while a process of that release still runs, which would write on in its form,
    and otherwise what `is_older` raises."""
    # In this order: another process of ours listens only once it has converted everything.
    listening = await _listening(engine)
    if not await is_older(engine):
        return
    if listening:
        raise ConfigurationError(
            f"Redis holds tasks of version {CONVERTED}, and {listening} processes of the Penstock that made "
            "them still run; stop all its API and worker processes, then start this one, which converts them"
        )
    count = 0
    async for ids in _newest_first(engine):
        count += await engine.run("convert_tasks", before=CONVERTED, version=RECORD_VERSION, ids=ids)
    while await engine.run("convert_board"):
        pass
    logger.bind(tasks=count).info("tasks of version {} were converted to version {}", CONVERTED, RECORD_VERSION)


async def _has_keys_of_before(engine: Engine) -> bool:
    """Whether something is not on the board that is always there in our form. No script looks at that, since a server
    that refuses writes, which is said later, refuses scripts too."""
    keys = engine.keys
    stray, pools, is_paused, drained = await engine.pipelined(
        [
            ("EXISTS", keys.of_root("pace"), keys.of_root("capped")),
            ("HVALS", keys.pools),
            ("EXISTS", keys.paused),
            ("ZRANGE", keys.drained, 0, -1),
        ]
    )
    models = [pool.decode().partition(" ")[0] for pool in pools]
    wanted = [*(f"pools:{model}" for model in models if model), *(f"drained:{one.decode()}" for one in drained)]
    (on_board,) = await engine.pipelined([("HMGET", keys.board, "paused", *wanted)])
    return bool(stray) or None in on_board[0 if is_paused else 1 :]


async def _oldest_versions(engine: Engine) -> set[int]:
    keys = engine.keys
    lists = await engine.pipelined([("ZRANGE", key, 0, 0) for key in await _lists(engine)])
    records = [keys.task(task_id.decode()) for task_id in chain.from_iterable(lists)]
    found = await engine.pipelined([("HGET", record, "version") for record in records])
    return {int(version) for version in found if version is not None}


async def _listening(engine: Engine) -> int:
    """How many workers and API processes of any release hear of what they do: each has one connection for it."""
    channels = (engine.keys.signals, engine.keys.room)
    (answer,) = await engine.pipelined([("PUBSUB", "NUMSUB", *channels)])
    return sum(int(count) for count in answer[1::2])


async def _newest_first(engine: Engine) -> AsyncIterator[Sequence[str]]:
    """Yields the ids of all tasks, in pages; in each list the oldest comes last, by which `is_older` goes."""
    for key in await _lists(engine):
        start = 0
        while True:
            (page,) = await engine.pipelined([("ZRANGE", key, start, start + PAGE - 1, "REV")])
            if not page:
                break
            yield [task_id.decode() for task_id in page]
            start += PAGE


async def _lists(engine: Engine) -> list[str]:
    (members,) = await engine.pipelined([("SMEMBERS", engine.keys.tenants)])
    return [engine.keys.state(tenant, state) for tenant, state in product(tenants_of(members), State)]
