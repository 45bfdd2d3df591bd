"""How much Redis does for a task: commands of scripts, and messages that somebody hears."""

import asyncio
from collections import Counter
from pathlib import Path

from penstock.core.task import ErrorRecord, Outcome
from tests.support.stores import lease_of, open_store, submit
from tools.queue_cost import by_verb

BROKEN = Outcome(error=ErrorRecord(code="inference_failed", message="no", retryable=False))
TASKS = 300
BAR = 63.5
"""Commands of a plain task, one of 100 callers, from the wait for its input to its reading. It only falls."""


async def test_a_plain_task_takes_no_more_commands_than_it_is_said_to(tmp_path: Path) -> None:
    *verbs, whole = await by_verb(tmp_path, TASKS)

    assert whole.commands <= BAR, {cost.verb: cost.commands for cost in verbs}


async def test_the_changes_of_a_task_are_told_only_when_somebody_watches_it(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        told: asyncio.Queue[str] = asyncio.Queue()
        watched, _ = await submit(store), await submit(store)
        changes = store.tasks.changes()
        changes.follow([watched])
        watching = asyncio.create_task(changes.run(told.put_nowait))
        assert await asyncio.wait_for(told.get(), 60) == watched, "the channel is open"

        heard = store.engine.client.pubsub()
        await heard.psubscribe(f"{store.engine.keys.changed}*", "the end")
        for _ in range(2):
            await store.leases.fail(await lease_of(store), BROKEN)
        await store.engine.client.publish("the end", "")
        channels: Counter[str] = Counter()
        while "the end" not in channels:
            if message := await heard.get_message(ignore_subscribe_messages=True, timeout=60):
                channels[message["channel"].decode()] += 1
        watching.cancel()
        await heard.aclose()

    assert channels == {f"{store.engine.keys.changed}{watched}": 2, "the end": 1}
