"""What do shards cost, and what do they bring: the work of each node of a Redis Cluster for a task, with one shard and
with more up to as many as nodes, and how many workers a node bears. `tools.shard_plot` draws the figures.

    python -m tools.shard_cost [--nodes 4] [--rounds 5] [--tasks 2000] [--workers 32] [--listeners 0,100,1000]
        [--json FILE]

Starts a cluster of masters without replicas, with the persistence of `penstock up`, and calls the real scripts through
`Shards`, with the records of `tools.queue_cost`. Simulated workers claim by the real `ClaimOrder` and complete at once;
tasks are submitted first, so that every claim but the last of each worker finds one.

- *All at once*: all tenants have tasks, and every worker serves all shards. Commands and CPU time are summed over all
  nodes, so that what one node does for the work of another counts too.
- *In turn*: the tenants of one shard after the other have tasks. From the CPU time of its node for a task follows how
  many tasks a second would keep one core of it busy; the sum over the nodes is what the cluster bears, since no node
  waits for another. Two cores cannot show it by driving all nodes at once, which would share them.
- *Listeners*: what a submit costs more for each worker that hears of it, the renewal of a worker that runs nothing, and
  its claim, which finds nothing.

CPU time is what counts, and not the time that passes: other programs of the machine make that longer. A node that has
nothing to do takes some, for the bus of the cluster and its timers; it is measured first and taken off.
"""

import argparse
import asyncio
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvloop
from rich.console import Console
from rich.table import Table

from penstock.core.task import PRIORITIES
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Shards, Store, WorkerInfo, connect_each
from penstock.store.keys import shard_of
from penstock.worker.claim_order import ClaimOrder
from tests.support.redis_fleets import ClusterFleet, client_of
from tests.support.redis_server import RedisProcess
from tools.queue_cost import INLINE_BYTES, LEASE_S, MODEL, PATIENCE_S, for_each, inline, outcome_of, submission

NAMESPACE = "cost"
IDLE_S = 3.0
TENANTS = 40
FEW = 300
"""Submits, and renewals, with listeners."""


@dataclass(frozen=True)
class Work:
    """The work of each node: CPU time in microseconds, and commands, those inside of scripts too."""

    cpu: tuple[float, ...]
    commands: tuple[int, ...]

    def since(self, before: "Work", idle: "Work", seconds: float) -> "Work":
        """What was done since then, beyond what an idle node does in that time."""
        rates = [rate * seconds for rate in idle.cpu]
        cpu = tuple(now - then - rate for now, then, rate in zip(self.cpu, before.cpu, rates, strict=True))
        return Work(cpu, tuple(now - then for now, then in zip(self.commands, before.commands, strict=True)))


@dataclass
class Row:
    """The work for one task, summed over all nodes and at the node that has most of it."""

    shards: int
    of: str
    commands: float
    cpu: float
    cpu_of_node: float


class Load(NamedTuple):
    """CPU time in microseconds, while so many workers listen."""

    listeners: int
    submit: float
    renewal: float
    empty_claim: float


def main() -> None:
    """Runs the measurements and prints their tables."""
    options = arguments()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="shard-cost-") as home:
        rows, loads = uvloop.run(measured(Path(home), options))
    one, many = (next(row for row in rows if row.shards == count and row.of == "all") for count in (1, options.nodes))
    console = Console(width=100)
    console.print(
        f"{os.cpu_count()} cores, load average before {load:.2f}; {options.rounds} x {options.tasks} tasks a row"
    )
    console.print(table(rows))
    console.print(
        f"{options.nodes} shards to one: {many.commands / one.commands:.3f} x the commands, "
        f"{many.cpu / one.cpu:.3f} x the CPU time a task"
    )
    capacity = {count: capacity_of(rows, count) for count in counts_of(options.nodes)}
    for count, a_second in capacity.items():
        console.print(
            f"{count} shards: {a_second:.0f} tasks a second, computed; {a_second / capacity[1]:.2f} x those of one"
        )
    for listeners, submit_us, renew_us, claim_us in loads:
        console.print(
            f"{listeners} listeners: {submit_us:.0f} µs of CPU a submit, {renew_us:.0f} µs a renewal, "
            f"{claim_us:.0f} µs a claim that finds nothing"
        )
    if options.json:
        figures = {"rows": [asdict(row) for row in rows], "listeners": loads, "capacity": capacity, "load_before": load}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=4, help="masters of the cluster, and shards [4]")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which medians are taken [5]")
    parser.add_argument("--tasks", type=int, default=2000, help="tasks for each row in a round [2000]")
    parser.add_argument("--workers", type=int, default=32, help="simulated workers that claim [32]")
    parser.add_argument("--listeners", type=numbers, default=[0, 100, 1000], help="workers that hear of submits")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    """Reads a list of numbers: `1,20` becomes [1, 20]."""
    return sorted(int(part) for part in text.split(","))


def counts_of(nodes: int) -> list[int]:
    """The numbers of shards that are measured: 1, 2, 4 and so on, and as many as there are nodes."""
    return sorted({nodes, *(2**power for power in range(nodes.bit_length()))})


def capacity_of(rows: Sequence[Row], count: int) -> float:
    """Tasks a second that keep one core busy at each node, where so many nodes have a shard each."""
    alone = [row.cpu_of_node for row in rows if row.shards == count and (row.of != "all" or count == 1)]
    return sum(1e6 / cost for cost in alone)


async def measured(home: Path, options: argparse.Namespace) -> tuple[list[Row], list[Load]]:
    """Measures a cluster with one shard, with more up to as many as it has nodes, and with listeners."""
    fleet = ClusterFleet(home, masters=options.nodes, replicas=False, tag=NAMESPACE, node_timeout_s=15.0)
    with fleet:
        idle = await idle_of(fleet)
        async with AsyncExitStack() as opened:
            each = [await opened.enter_async_context(shards_on(fleet, count)) for count in counts_of(options.nodes)]
            for shards in each:
                await warmed(shards)
            rounds = [[await driven(fleet, *one, idle, options) for one in turns(each)] for _ in range(options.rounds)]
        loads = [await heard(fleet, count, idle) for count in options.listeners]
    return [median_of(rows) for rows in zip(*rounds, strict=True)], loads


def turns(each: Sequence[Shards]) -> Iterator[tuple[Shards, Sequence[int]]]:
    """Yields whose tenants have tasks: of all shards at once, then of one after the other."""
    for shards in each:
        yield shards, range(len(shards))
        if len(shards) > 1:
            yield from ((shards, [shard]) for shard in range(len(shards)))


def median_of(rows: Sequence[Row]) -> Row:
    """The same row of several rounds. They are taken in turns, since the CPU time of the same work depends on what else
    the machine does."""
    costs = ((row.commands, row.cpu, row.cpu_of_node) for row in rows)
    return Row(rows[0].shards, rows[0].of, *map(statistics.median, zip(*costs, strict=True)))


@asynccontextmanager
async def shards_on(fleet: ClusterFleet, count: int) -> AsyncIterator[Shards]:
    settings = RedisSettings(url=fleet.url, namespace=f"{NAMESPACE}{count}", shards=count, timeout_s=PATIENCE_S)
    queue = QueueSettings(max_depth=10**9, lease_s=LEASE_S, inline_budget_bytes=2**40)
    async with connect_each(settings) as clients:
        yield Shards.over(clients, queue, patience_s=PATIENCE_S)


async def warmed(shards: Shards) -> None:
    """The first use of a connection, a script or a model costs extra."""
    for store in shards:
        await store.leases.renew(worker("w0"), [])
        assert (await store.leases.claim(worker="w0", device="cpu", models=[MODEL])).lease is None


async def driven(
    fleet: ClusterFleet, shards: Shards, wanted: Sequence[int], idle: Work, options: argparse.Namespace
) -> Row:
    """Takes the tasks of tenants of these shards through their lives, and returns the work for one."""
    names = [f"tenant-{number}" for number in range(TENANTS) if shard_of(f"tenant-{number}", len(shards)) in wanted]
    made = [
        msgspec.structs.replace(inline(submission(number)), tenant=tenant)
        for number, tenant in zip(range(options.tasks), itertools.cycle(names), strict=False)
    ]
    before, started = work_of(fleet), time.monotonic()

    async def submit_one(number: int) -> None:
        one = msgspec.structs.replace(made[number], inline={made[number].own_input: os.urandom(INLINE_BYTES)})
        assert await shards.of(one.tenant).tasks.submit_unstored(one, rate_limit=0)

    await for_each(range(options.tasks), submit_one)
    counts = await asyncio.gather(*(worked(f"w{number}", shards) for number in range(options.workers)))
    assert sum(counts) == options.tasks
    spent = work_of(fleet).since(before, idle, time.monotonic() - started)
    of = "all" if len(wanted) == len(shards) else f"shard {wanted[0]}"
    commands, cpu = sum(spent.commands), sum(spent.cpu)
    return Row(len(shards), of, commands / options.tasks, cpu / options.tasks, max(spent.cpu) / options.tasks)


async def worked(name: str, shards: Shards) -> int:
    """Claims and completes until nothing waits in any shard. Returns how many tasks it had."""
    order, count = ClaimOrder(shards), 0
    while source := order.next(len(PRIORITIES)):
        (claim,) = await source.store.leases.claim_several(1, worker=name, device="cpu", models=[MODEL])
        order.charge(source, [claim])
        if claim.lease is None:
            order.found_nothing(source, claim, len(PRIORITIES))
            continue
        assert await source.store.leases.complete(claim.lease, outcome_of(claim.lease))
        count += 1
    return count


async def heard(fleet: ClusterFleet, listeners: int, idle: Work) -> Load:
    """The CPU time of a submit that so many workers hear of, of a renewal, and of a claim that finds nothing."""
    async with shards_on(fleet, len(fleet.servers)) as shards:
        store = shards.home
        async with listening(store, listeners):
            claims = await spent_on(fleet, idle, partial(claim_at, store))
            submits = await spent_on(fleet, idle, partial(submit_at, store))
            renewals = await spent_on(fleet, idle, partial(renew_at, store))
            await worked("last", shards)
    return Load(listeners, submits, renewals, claims)


@asynccontextmanager
async def listening(store: Store, listeners: int) -> AsyncIterator[None]:
    """Lets so many workers hear what is published in a shard, each over its own connection."""
    ready = asyncio.Queue[str]()

    async def listen() -> None:
        async for kind, _ in store.workers.signals():
            if kind == "look":
                await ready.put(kind)

    tasks = [asyncio.create_task(listen()) for _ in range(listeners)]
    for _ in tasks:
        await ready.get()
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def spent_on(fleet: ClusterFleet, idle: Work, act: Callable[[int], Awaitable[None]]) -> float:
    """The CPU time of all nodes for one of a few acts, in microseconds."""
    before, started = work_of(fleet), time.monotonic()
    await for_each(range(FEW), act)
    return sum(work_of(fleet).since(before, idle, time.monotonic() - started).cpu) / FEW


async def submit_at(store: Store, number: int) -> None:
    assert await store.tasks.submit_unstored(inline(submission(number)), rate_limit=0)


async def renew_at(store: Store, number: int) -> None:
    await store.leases.renew(worker(f"w{number}"), [])


async def claim_at(store: Store, number: int) -> None:
    claims = await store.leases.claim_several(1, worker=f"w{number}", device="cpu", models=[MODEL])
    assert claims[0].lease is None


def worker(name: str) -> WorkerInfo:
    """A worker that runs nothing."""
    return WorkerInfo(id=name, device="cpu", host="here", models=(MODEL,), slots=8, running=0, state="READY", started=0)


async def idle_of(fleet: ClusterFleet) -> Work:
    """The CPU time of each node for a second without work."""
    before = work_of(fleet)
    await asyncio.sleep(IDLE_S)
    after = work_of(fleet)
    return Work(tuple((now - then) / IDLE_S for now, then in zip(after.cpu, before.cpu, strict=True)), before.commands)


def work_of(fleet: ClusterFleet) -> Work:
    """What each node has done so far."""
    found = [_work_of(server) for server in fleet.servers]
    return Work(tuple(cpu for cpu, _ in found), tuple(commands for _, commands in found))


def _work_of(server: RedisProcess) -> tuple[float, int]:
    with client_of(server) as client:
        cpu, stats = client.info("cpu"), client.info("commandstats")
    spent = float(cpu["used_cpu_user"] + cpu["used_cpu_sys"]) * 1e6
    around = ("cmdstat_info", "cmdstat_evalsha", "cmdstat_client|setinfo", "cmdstat_cluster|slots")
    return spent, sum(row["calls"] for name, row in stats.items() if name not in around)


def table(rows: Sequence[Row]) -> Table:
    """The rows as a table."""
    made = Table("shards", "tenants of", "commands", "CPU of all nodes, µs", "CPU of the busiest, µs")
    for row in rows:
        made.add_row(str(row.shards), row.of, f"{row.commands:.2f}", f"{row.cpu:.0f}", f"{row.cpu_of_node:.0f}")
    return made


if __name__ == "__main__":
    main()
