"""What must be true: of Redis at any time, of everything when it is at rest, and of tasks that nothing may hold up."""

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterator

from penstock.core.task import State
from tests.interleave.invariants import broken
from tests.seeds.history import FINAL_EVENTS, Accepted
from tests.seeds.world import World
from tests.support.queue_snapshot import Snapshot

IDENTITY = "installation"
"""The object that names the installation, which belongs to no record."""

AT_ONCE_S, LINE_MS = 0.25, 40
"""How long after its submit the end of a task is told, besides its own work; a batch has so long for each line. Whoever
is not woken looks once in a second (workers) or in ten (feeders, dispatchers)."""

LOOKED_FOR_S = 5.0
"""How long the ends are waited for."""
RUNS_END_S = 4.5
"""A run that was told to stop goes on to its end, and the longest takes 4 s: until then a worker may have no room."""
LONG_MS, LONG_SHARE = 8_000, 0.3
"""Longer than a lease, and how many of the runs have a task that takes so long."""

KEEPS_WORKERS = {"cut", "storage-away", "sigterm", "sigterm-twice", "redis-restart"}
"""Harm after which no attempt is lost: the worker goes on, or hands back. Redis is away for less than a lease."""
HARM = {"killed", "freeze", "partition", "slow-network", *KEEPS_WORKERS}


def at_any_time(world: World) -> list[str]:
    """Returns what is wrong in Redis, whatever is under way."""
    return [fault for fault in broken(world.look(), world.storage.objects) if fault.startswith("not in its place")]


def at_the_end(world: World) -> list[str]:
    """Returns what is wrong when nothing is under way."""
    snapshot = world.look()
    objects = {key: data for key, data in world.storage.objects.items() if key != IDENTITY}
    return [
        *broken(snapshot, objects),
        *_ends(world, snapshot),
        *_messages(world, snapshot),
        *_held(world),
        *_names(snapshot),
        *_lost(world, snapshot),
    ]


def what_waits(world: World) -> str:
    """Returns in words what is not at rest."""
    snapshot = world.look()
    waiting = [
        f"{task_id} {record['state']} {record['stage']}"
        for task_id, record in sorted(snapshot.records.items())
        if not State(record["state"]).is_final
    ]
    others = [name for name in ("feeding", "outbox", "outbox-prompt") if snapshot.keys.get(name)]
    return "; ".join([*waiting[:5], *others])


async def nothing_is_held_up(world: World, count: int) -> None:
    """Submit a few tasks and batches while nothing goes wrong and workers have room: each is told of at once."""
    chance, history = world.loop.chance, world.history
    await asyncio.sleep(RUNS_END_S)
    submitted: list[tuple[str, int, float]] = []
    has_long = chance.random() < LONG_SHARE

    moments = [chance.uniform(0, 2.5) for _ in range(2)]  # several come at a time: each may hide the wake-up of another

    async def one() -> None:
        await asyncio.sleep(chance.choice(moments) + chance.uniform(0, 0.004))
        ms = chance.choice((1, 5, 10))
        if chance.random() < 0.25:
            batch_id = await world.clients.batch(calm=True)
            if batch_id is not None:
                submitted.append((batch_id, LINE_MS * history.batches[batch_id], world.loop.time()))
        elif (task_id := await world.clients.submit(ends="well", ms=ms, calm=True)) is not None:
            submitted.append((task_id, ms, world.loop.time()))

    async def long() -> None:
        if has_long and (task_id := await world.clients.submit(ends="well", ms=LONG_MS, calm=True)) is not None:
            submitted.append((task_id, LONG_MS, world.loop.time()))

    await asyncio.gather(long(), *(one() for _ in range(count)))
    give_up = world.loop.time() + LOOKED_FOR_S + (LONG_MS / 1000 if has_long else 0)
    while world.loop.time() < give_up and not {one for one, *_ in submitted} <= {one.subject for one in history.told}:
        await asyncio.sleep(0.05)
    told = {(one.subject, one.type): one.at for one in reversed(history.told)}
    snapshot = world.look()
    for subject, ms, at in submitted:
        ended = told.get((subject, "completed" if subject in history.batches else "succeeded"))
        took_s = (ended or world.loop.time()) - at - ms / 1000
        if any(attempt["outcome"] == "lost" for attempt in snapshot.attempts(subject)):
            history.faults.append(f"an attempt was lost while nothing went wrong: {subject}")
        if took_s > AT_ONCE_S:
            history.faults.append(
                f"held up: its end is told {took_s:.2f} s late ({'batch' if subject in history.batches else 'task'})"
            )
            if history.lines is not None:
                history.lines.append(f"held up: {subject} submitted at {at:.3f}")


def _ends(world: World, snapshot: Snapshot) -> Iterator[str]:
    """Every task that was accepted has ended as it was to end."""
    history = world.history
    for task_id, accepted in history.accepted.items():
        record = snapshot.records.get(task_id)
        if record is None:
            yield f"an accepted task is not there: {task_id}"
        elif (why := _wrong_end(accepted, State(record["state"]), record, world)) is not None:
            yield f"a task that was to end {accepted.ends} is {record['state']}{why}: {task_id}"
    for batch_id, total in history.batches.items():
        batch = snapshot.under("batch:").get(batch_id)
        if batch is None:
            yield f"an accepted batch is not there: {batch_id}"
        elif int(batch["fed"]) != total:
            yield f"a batch of {total} lines has {batch['fed']}: {batch_id}"


def _wrong_end(accepted: Accepted, state: State, record: dict[str, str], world: World) -> str | None:
    history = world.history
    if state is State.CANCELED:
        return None if accepted.task_id in history.cancels else ", though nobody has canceled it"
    if state is State.EXPIRED:
        return None if accepted.may_expire else ", though it has no limit"
    if state is State.FAILED:
        may_fail = accepted.may_expire or accepted.ends == "badly"
        return None if may_fail or (accepted.ends == "flaky" and int(record["failures"]) > 0) else ", without a reason"
    return ", though it cannot succeed" if accepted.ends == "badly" else None


def _messages(world: World, snapshot: Snapshot) -> Iterator[str]:
    """Every end was told, and nothing else; the numbers of the events of a task grow."""
    told: defaultdict[str, dict[int, str]] = defaultdict(dict)
    for one in world.history.told:
        if told[one.subject].setdefault(one.seq, one.type) != one.type:
            yield f"one message has two meanings: {one.subject} {one.seq}"
    for task_id, accepted in world.history.accepted.items():
        record, messages = snapshot.records.get(task_id), told[task_id]
        if record is None or not accepted.has_hook:
            continue
        last = messages[max(messages)] if messages else None
        if last != FINAL_EVENTS[State(record["state"])]:
            yield f"the last that was told of a task is {last}, and it is {record['state']}: {task_id}"
        if task_id not in world.history.again and len(messages) > 1:
            yield f"several ends were told of one task: {task_id} {messages}"


def _held(world: World) -> Iterator[str]:
    """No worker holds anything."""
    for hand in world.workers:
        if hand.worker.host is not None and (held := hand.worker.host.tasks):
            yield f"a worker still runs {len(held)} tasks that have ended"


def _names(snapshot: Snapshot) -> Iterator[str]:
    """A name of a client stands for one task."""
    named = Counter(
        (record["caller"], name)
        for task_id, record in snapshot.records.items()
        if (name := json.loads(snapshot.keys[f"body:{task_id}"]).get("client_request_id"))
    )
    yield from (f"{count} tasks of one name: {name}" for (_, name), count in sorted(named.items()) if count > 1)


def _lost(world: World, snapshot: Snapshot) -> Iterator[str]:
    """No attempt is lost where no worker was."""
    if HARM & world.history.counts.keys() <= KEEPS_WORKERS:
        for task_id in sorted(snapshot.records):
            for attempt in snapshot.attempts(task_id):
                if attempt["outcome"] == "lost":
                    yield f"an attempt was lost, and its worker was not: {task_id} {attempt['n']}"
