"""What does the queue cost: the time of a claim by the length of the queue and by the number of running tasks, the
memory of a task, and the work of Redis for one task?

    python -m tools.queue_cost [--sizes 1000,100000,1000000] [--running 1,100,10000] [--claims 1000] [--tasks 5000]
                               [--json FILE]

Starts a Redis (or Valkey) with the persistence of `penstock up` and calls the real scripts through Store, for 100
callers, with records like those that the API writes for an image in the request. A claim is timed twice: by its caller,
one after the other on a unix socket with uvloop as in a worker, and by Redis itself (`INFO commandstats`, the time in
the script). The first two tables should hardly grow from row to row. The third one is about a task without reuse,
webhook and batch, whose input of 8 KiB stays in Redis: every task goes through one verb before the first goes on to the
next.
"""

import argparse
import asyncio
import json
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, astuple, dataclass
from pathlib import Path

import msgspec
import uvloop
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from penstock.bench.figures import spread
from penstock.core.access import TENANT
from penstock.core.lease import Lease
from penstock.core.request import OutputOptions, Request, Source
from penstock.core.submission import Submission
from penstock.core.task import PRIORITIES, Artifact, Outcome, Result, new_task_id
from penstock.local.children import die_with_parent
from penstock.local.redis_server import find_server
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Redis, Store, connect

MODEL = "superres-x4"
CALLERS = 100
SENDERS = 16
LEASE_S = 3600.0
"""So long that nothing is reclaimed during a measurement."""

INLINE_BYTES = 8 * 1024
"""The input of a task that stays in Redis; larger ones are only longer to copy."""

BUFFERS_KEPT_S = 3.0
PATIENCE_S = 60.0
"""A Redis that rewrites a file of a gigabyte on a busy machine may keep a call waiting."""


@dataclass
class Row:
    """The claims in one state of the queue. Times are in milliseconds."""

    queued: int
    running: int
    p50: float
    p99: float
    in_redis: float


@dataclass
class Cost:
    """The work of Redis for one verb of one task. Times are in microseconds."""

    verb: str
    commands: float
    """Commands that the script calls."""

    script: float
    """Time in the script, by the clock of Redis."""

    cpu: float
    """CPU time of the whole server: the script, the socket, the append-only file."""


def main() -> None:
    """Runs the measurements and prints three tables."""
    options = arguments()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="queue-cost-") as home:
        lengths, bytes_per_task, submits_per_s = uvloop.run(by_length(Path(home), options.sizes, options.claims))
        running = uvloop.run(by_running(Path(home), options.running, options.claims))
        costs = uvloop.run(by_verb(Path(home), options.tasks))
    console = Console(width=100)
    console.print(f"{os.cpu_count()} cores, load average before {load:.2f}, {options.claims} claims a row")
    console.print(table("Claim by the length of the queue", lengths))
    console.print(table("Claim by the number of running tasks", running))
    console.print(table_of_costs(f"Work of Redis for a plain task, mean of {options.tasks}", costs))
    console.print(f"Redis memory of a queued task: {bytes_per_task:.0f} bytes, beside its input")
    console.print(f"submits: {submits_per_s:.0f} /s from {SENDERS} senders of one process")
    if options.json:
        rows = {"lengths": [asdict(row) for row in lengths], "running": [asdict(row) for row in running]}
        rows["costs"] = [asdict(row) for row in costs]
        figures = rows | {"bytes_per_task": bytes_per_task, "submits_per_s": submits_per_s, "load_before": load}
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=numbers, default=[1_000, 100_000, 1_000_000], help="lengths, rising")
    parser.add_argument("--running", type=numbers, default=[1, 100, 1_000, 10_000], help="running tasks, rising")
    parser.add_argument("--claims", type=int, default=1000, help="claims for each row [1000]")
    parser.add_argument("--tasks", type=int, default=5000, help="tasks for the third table [5000]")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    return parser.parse_args()


def numbers(text: str) -> list[int]:
    """Reads a list of numbers: `1,20` becomes [1, 20]."""
    return sorted(int(part) for part in text.split(","))


async def by_length(home: Path, sizes: Sequence[int], claims: int) -> tuple[list[Row], float, float]:
    """Measures claims at each length of the queue; each claimed task is replaced by a new submit. Also returns the
    bytes of one queued task at the greatest length, and the submits per second on the way there."""
    rows, submitted, took_s, memory = [], 0, 0.0, 0
    async with redis_at(home / "by-length") as client:
        store = Store(
            Engine(
                client, "cost", QueueSettings(max_depth=2 * sizes[-1] + claims, lease_s=LEASE_S), patience_s=PATIENCE_S
            )
        )
        first = min(CALLERS, sizes[0])  # first use of a caller, a connection or a script costs extra
        await submit(store, first)
        before = await used_memory(client)
        for size in sizes:
            missing = size - await depth(store)
            started = time.perf_counter()
            await submit(store, missing)
            submitted, took_s = submitted + missing, took_s + time.perf_counter() - started
            memory = await used_memory(client)
            rows.append(await claimed(store, client, queued=size, running=0, claims=claims))
    return rows, (memory - before) / max(1, sizes[-1] - first), submitted / took_s


async def by_running(home: Path, counts: Sequence[int], claims: int) -> list[Row]:
    """Measures claims while this many tasks run, from a queue that never becomes empty."""
    rows, running = [], 0
    async with redis_at(home / "by-running") as client:
        store = Store(Engine(client, "cost", QueueSettings(max_depth=10**9, lease_s=LEASE_S), patience_s=PATIENCE_S))
        await submit(store, counts[-1] + claims * 2)
        for wanted in counts:
            for _ in range(wanted - running):
                await claim(store)
            running = wanted
            rows.append(await claimed(store, client, queued=await depth(store), running=wanted, claims=claims))
    return rows


async def by_verb(home: Path, tasks: int) -> list[Cost]:
    """Takes this many tasks through their life and returns the cost of each verb and of all together. Every task
    goes through one verb before the next verb begins: submit, claim, complete and read."""
    costs: list[Cost] = []
    submissions = [inline(submission(number)) for number in range(tasks)]
    leases: list[Lease] = []
    async with redis_at(home / "by-verb") as client:
        store = Store(
            Engine(
                client,
                "cost",
                QueueSettings(max_depth=2 * tasks, lease_s=LEASE_S, inline_budget_bytes=2 * tasks * INLINE_BYTES),
                patience_s=PATIENCE_S,
            )
        )

        async def submit_one(number: int) -> None:
            assert await store.tasks.submit_unstored(submissions[number], rate_limit=0)

        async def claim_one(_: int) -> None:
            leases.append(await claim(store))

        async def complete_one(number: int) -> None:
            assert await store.leases.complete(leases[number], outcome_of(leases[number]))

        async def read_one(number: int) -> None:
            await store.tasks.get(leases[number].id, TENANT)

        await claim_nothing(store)
        verbs = {
            "submit": submit_one,
            "claim": claim_one,
            "complete": complete_one,
            "read": read_one,
        }
        for verb, call in verbs.items():
            await client.config_resetstat()
            before = await cpu_us(client)
            await for_each(range(tasks), call)
            spent_us = await cpu_us(client) - before
            costs.append(await cost_of(client, verb, spent_us))
    total = Cost("all", *(sum(figures) for figures in zip(*(astuple(cost)[1:] for cost in costs), strict=True)))
    return [*costs, total]


async def cost_of(client: Redis, verb: str, spent_us: float) -> Cost:
    """Returns the cost of one task by the counters of Redis since their last reset."""
    stats = await client.info("commandstats")
    scripts = stats["cmdstat_evalsha"]
    around = {"cmdstat_evalsha", "cmdstat_info", "cmdstat_config|resetstat"}
    commands = sum(row["calls"] for name, row in stats.items() if name not in around)
    calls = scripts["calls"]
    return Cost(verb=verb, commands=commands / calls, script=scripts["usec"] / calls, cpu=spent_us / calls)


async def cpu_us(client: Redis) -> float:
    """Returns the CPU time of the server so far, in microseconds, over all its threads."""
    spent = await client.info("cpu")
    return float(spent["used_cpu_user"] + spent["used_cpu_sys"]) * 1e6


async def for_each(numbers: Iterable[int], call: Callable[[int], Awaitable[None]]) -> None:
    """Calls `work` with each number, over several connections."""
    order = iter(numbers)

    async def connection() -> None:
        for number in order:
            await call(number)

    await asyncio.gather(*(connection() for _ in range(SENDERS)))


async def claimed(store: Store, client: Redis, *, queued: int, running: int, claims: int) -> Row:
    """Times claims. Each task is released again, so that the queue and the running tasks keep their numbers."""
    times = []
    for _ in range(min(20, claims)):
        await store.leases.release(await claim(store))
    await client.config_resetstat()
    in_redis_us = 0.0
    for _ in range(claims):
        before_us = await script_us(client)
        started = time.perf_counter()
        lease = await claim(store)
        times.append((time.perf_counter() - started) * 1000)
        in_redis_us += await script_us(client) - before_us
        await store.leases.release(lease)
    found = spread(times)
    return Row(queued=queued, running=running, p50=found.p50, p99=found.p99, in_redis=in_redis_us / claims / 1000)


async def claim(store: Store) -> Lease:
    """Claims one task of any priority."""
    found = await store.leases.claim(worker="w", device="cpu", models=[MODEL], priorities=PRIORITIES)
    assert found.lease is not None
    return found.lease


async def claim_nothing(store: Store) -> None:
    """Registers the models of a worker by a claim that finds no task, so that the first timed claim need not."""
    assert (await store.leases.claim(worker="w", device="cpu", models=[MODEL])).lease is None


async def script_us(client: Redis) -> float:
    """Returns the time that scripts have taken so far, in microseconds, by the clock of Redis."""
    stats = await client.info("commandstats")
    return float(stats.get("cmdstat_evalsha", {}).get("usec", 0))


async def submit(store: Store, tasks: int) -> None:
    """Submits tasks over several connections."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(f"{tasks} submits", total=tasks)

        async def one(number: int) -> None:
            task = submission(number)
            await store.tasks.await_inputs([str(task.own_input)])
            await store.tasks.submit(task, rate_limit=0)
            if number % 1000 == 0:
                progress.update(bar, completed=number)

        await for_each(range(tasks), one)


def submission(number: int) -> Submission:
    """Returns a submission like that of the API for a photo in the request."""
    task_id = new_task_id()
    request = Request(
        model=MODEL,
        inputs={"image": Source(key=f"inputs/{TENANT}/{task_id}")},
        params={},
        output=OutputOptions(),
        traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )
    return Submission(
        id=task_id,
        tenant=TENANT,
        caller=f"caller-{number % CALLERS}",
        priority=PRIORITIES[number % len(PRIORITIES)],
        cost=100 + number % 2000,
        request=request,
        fingerprint="0" * 64,
        max_retries=3,
        timeout_s=600.0,
        start_within_s=None,
        finish_within_s=None,
        result_ttl_s=86_400,
        reuse_digest=f"{number:022d}",
    )


def inline(made: Submission) -> Submission:
    """Returns the same without reuse, and with an input that stays in Redis."""
    data = os.urandom(INLINE_BYTES)
    return msgspec.structs.replace(made, reuse_digest=None, input_bytes=len(data), inline={str(made.own_input): data})


def outcome_of(lease: Lease) -> Outcome:
    """Returns an outcome like that of a worker."""
    artifact = Artifact(
        name="result.png",
        s3_key=f"results/{TENANT}/{lease.id}/{lease.token}.png",
        size=1_000_000,
        sha256="0" * 64,
        content_type="image/png",
        width=1024,
        height=1024,
    )
    timing = dict.fromkeys(("queue_ms", "fetch_ms", "infer_ms", "upload_ms", "total_ms"), 12.345)
    return Outcome(
        result=Result(artifacts=(artifact,)), timing=timing, execution={"device": "cpu", "device_ms": 12.345}
    )


async def depth(store: Store) -> int:
    """Returns the number of tasks that wait."""
    return sum(queue.depth for queue in await store.queues.depths([MODEL]))


async def used_memory(client: Redis) -> int:
    """Returns the memory of Redis in bytes, without the buffers of clients: Redis frees those after two idle
    seconds."""
    await asyncio.sleep(BUFFERS_KEPT_S)
    return int((await client.info("memory"))["used_memory"])


@asynccontextmanager
async def redis_at(home: Path) -> AsyncIterator[Redis]:
    """Starts a server on this socket and stops it at the end of the block."""
    home.mkdir()
    socket = home / "redis.sock"
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(home), "--save", "", "--appendonly", "yes"]
    process = subprocess.Popen(
        [str(find_server()), *options], stdout=subprocess.DEVNULL, preexec_fn=die_with_parent, start_new_session=True
    )
    try:
        while not socket.exists():
            await asyncio.sleep(0.02)
        async with connect(RedisSettings(url=f"unix://{socket}", timeout_s=PATIENCE_S)) as client:
            yield client
    finally:
        process.terminate()
        process.wait(60)


def table(title: str, rows: Sequence[Row]) -> Table:
    """Formats the claims, one row for each state of the queue."""
    found = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("queued", "running", "claim p50", "claim p99", "in Redis, mean"):
        found.add_column(name, justify="right")
    for row in rows:
        times = (f"{value:.3f} ms" for value in (row.p50, row.p99, row.in_redis))
        found.add_row(f"{row.queued:,}", f"{row.running:,}", *times)
    return found


def table_of_costs(title: str, costs: Sequence[Cost]) -> Table:
    """Formats the costs, one row for each verb."""
    found = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for name in ("verb", "commands", "in the script", "CPU of the server"):
        found.add_column(name, justify="left" if name == "verb" else "right")
    for cost in costs:
        found.add_row(cost.verb, f"{cost.commands:.1f}", f"{cost.script:.0f} µs", f"{cost.cpu:.0f} µs")
    return found


if __name__ == "__main__":
    main()
