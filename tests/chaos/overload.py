"""Scenarios A3 to A5: more work than there is room for, and a tenant that sends more than it may."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from msgspec import Struct

from tests.chaos.checker import moment
from tests.chaos.flood import Flood, Sent
from tests.chaos.nemesis import Nemesis
from tests.chaos.report import Report
from tests.chaos.world import World

FLOOD, QUIET = "a-key-of-a-tenant-that-floods", "a-key-of-a-tenant-that-is-quiet"
KEYS = {"API_KEYS": f"flood:{FLOOD},quiet:{QUIET}"}
OVERLOAD = 5
TASK_MS, QUICK_MS = 50, 10
"""What one task of A3 and A4 takes on its device, and one of A5."""
DEPTH = 120
"""Tasks that may wait in A3 and A4: those of 3 s for two workers."""
PER_MINUTE = 300
"""Submits a minute of one tenant in A5."""
FLOOD_TIMES = 10
QUIET_PER_S = 4.0
MIB = 1024 * 1024
LOOK_EVERY_S = 0.1
GIVE_UP_S = 60.0


class Cost(Struct):
    """Of the block: by how many bytes the process that grew most has grown, how many seconds of CPU the first server
    has used, and for what part of the time it has waited for one: on a machine with room that is next to nothing."""

    grown: int = 0
    cpu_s: float = 0.0
    starved: float = 0.0


async def overload(world: World, seed: int, seconds: int) -> Report:
    """A3: five times as many submits as the workers can do."""
    async with Flood(world.servers(), FLOOD, ms=TASK_MS) as clients:
        capacity = await _capacity(clients)
        usual_s = median([(await clients.submit(wait=True)).took_s for _ in range(9)])
        async with _cost_of(world) as cost:
            began = time.time()
            sent = await clients.send(OVERLOAD * capacity, seconds)
            ended = time.time()
        back_s = await _back_s(clients, usual_s)
        records = await clients.records(sent)
    done = [record for record in records if began <= moment(record["finished_at"]) <= ended]
    refused = [one for one in sent if one.is_our_refusal]
    return Report(
        figures=_answers(sent, refused)
        | {
            "lost": _lost(records),
            "capacity_per_s": capacity,
            "goodput": len(done) / (ended - began) / capacity,
            "refusal_p99_s": p(99, refused),
            "grown_mib": cost.grown / MIB,
            "cpu_ms_each": 1000 * cost.cpu_s / len(sent),
            "starved": cost.starved,
            "usual_s": usual_s,
            "back_s": back_s,
        }
    )


async def full_queue(world: World, seed: int, tasks: int) -> Report:
    """A4: many submits at once through several servers, while nobody works."""
    nemesis = Nemesis(world)
    for host in world.hosts:
        await nemesis.stop_host(host)
    async with Flood(world.servers(), FLOOD, ms=1) as clients:
        sent = await asyncio.gather(*(clients.submit() for _ in range(tasks)))
        waiting = await clients.listed()
        for host in world.hosts:
            host.start()
        records = await clients.records(sent)
        after = await clients.submit(wait=True)
    refused = [one for one in sent if one.is_our_refusal]
    return Report(
        figures=_answers(sent, refused)
        | {
            "lost": _lost(records),
            "depth": DEPTH,
            "waiting": waiting,
            "queue_full": sum(one.code == "queue_full" for one in refused),
            "accepted_after": after.is_accepted,
            "refusal_p99_s": p(99, refused),
        }
    )


async def greedy_tenant(world: World, seed: int, seconds: int) -> Report:
    """A5: one tenant sends ten times what it may, through all servers."""
    async with (
        Flood(world.servers(), FLOOD, ms=QUICK_MS) as greedy,
        Flood(world.servers(), QUIET, ms=QUICK_MS) as quiet,
    ):
        await quiet.send(QUIET_PER_S, 2, wait=True)
        alone = await quiet.send(QUIET_PER_S, seconds, wait=True)
        async with _cost_of(world) as cost:
            beside, sent = await asyncio.gather(
                quiet.send(QUIET_PER_S, seconds, wait=True), greedy.send(FLOOD_TIMES * PER_MINUTE / 60, seconds)
            )
        records = await greedy.records(sent)
    refused = [one for one in sent if one.is_their_refusal]
    most = _most_within_a_minute(sorted(moment(record["created_at"]) for record in records))
    return Report(
        figures=_answers(sent, refused)
        | {
            "lost": _lost(records),
            "most_in_a_minute": most,
            "limit_error": abs(most / PER_MINUTE - 1),
            "others_refused": sum(not one.is_accepted for one in (*alone, *beside)),
            "others_p95_alone_s": p(95, alone),
            "others_p95_beside_s": p(95, beside),
            "others_ratio": p(95, beside) / p(95, alone),
            "starved": cost.starved,
            "refusal_p99_s": p(99, refused),
        }
    )


def p(percent: int, sent: Sequence[Sent]) -> float:
    """Return this percentile of the seconds that the answers took."""
    return _percentile(percent, [one.took_s for one in sent])


def _percentile(percent: int, values: Sequence[float]) -> float:
    return quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else 0.0


def _answers(sent: Sequence[Sent], refused: Sequence[Sent]) -> dict[str, float]:
    """Return how many submits were accepted, were refused as they should, and got another answer or none."""
    accepted = sum(one.is_accepted for one in sent)
    return {
        "sent": len(sent),
        "accepted": accepted,
        "refused": len(refused),
        "other_answers": len(sent) - accepted - len(refused),
        "sent_late_p99_s": _percentile(99, [one.late_s for one in sent]),
        "load": os.getloadavg()[0],
    }


def _lost(records: Sequence[dict[str, Any]]) -> int:
    return sum(record["status"] != "SUCCESS" for record in records)


def _most_within_a_minute(times: Sequence[float]) -> int:
    """Return the most of these moments that lie within 60 s. They are known to the millisecond."""
    first = 0
    most = 0
    for n, moment_ in enumerate(times):
        while moment_ - times[first] >= 60 - 0.002:
            first += 1
        most = max(most, n - first + 1)
    return most


async def _capacity(clients: Flood) -> float:
    """Return how many tasks a second the workers do while their queue is full."""
    sent = await asyncio.gather(*(clients.submit() for _ in range(DEPTH)))
    ended = sorted(moment(record["finished_at"]) for record in await clients.records(sent))
    first, last = len(ended) // 5, len(ended) * 4 // 5
    return (last - first) / (ended[last] - ended[first])


async def _back_s(clients: Flood, usual_s: float) -> float:
    """Return when a task takes no more than twice its usual time again, in seconds from now, at most GIVE_UP_S."""
    began = time.monotonic()
    while (sent_s := time.monotonic() - began) < GIVE_UP_S:
        one = await clients.submit(wait=True)
        if one.is_accepted and one.took_s <= 2 * usual_s:
            return sent_s
        if not one.is_accepted:
            await asyncio.sleep(0.1)
    return GIVE_UP_S


@asynccontextmanager
async def _cost_of(world: World) -> AsyncIterator[Cost]:
    """Measures the processes of servers and workers meanwhile."""
    pids = [api.pid for api in world.apis] + [pid for host in world.hosts for pid in host.children()]
    before, cost = {pid: _resident(pid) for pid in pids}, Cost()
    began, (ran_s, waited_s) = time.monotonic(), _scheduled(pids[0])

    async def look() -> None:
        while True:
            cost.grown = max(cost.grown, *(_resident(pid) - before[pid] for pid in pids))
            await asyncio.sleep(LOOK_EVERY_S)

    looking = asyncio.create_task(look(), name="memory")
    try:
        yield cost
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        ran_then_s, waited_then_s = _scheduled(pids[0])
        cost.cpu_s = ran_then_s - ran_s
        cost.starved = (waited_then_s - waited_s) / (time.monotonic() - began)


def _resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _scheduled(pid: int) -> tuple[float, float]:
    """Return for how many seconds the main thread of a process has run, and waited for a CPU."""
    ran_ns, waited_ns, _ = map(int, Path(f"/proc/{pid}/schedstat").read_text().split())
    return ran_ns / 1e9, waited_ns / 1e9
