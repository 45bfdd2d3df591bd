"""How does Penstock compare with FastAPI and Celery, for a task that does nothing?

    python -m tools.compare [--tasks 1000] [--clients 8] [--rounds 1] [--peer-python PATH] [--json FILE]

Sends all servers the same requests on the same machine. Each has one API process and one worker process. Celery has
RabbitMQ as its broker and Redis for results. It runs once with acks_late, reject_on_worker_lost, a prefetch of one and
publisher confirms, which comes nearest to what Penstock promises, and once with its defaults. The table has a row for
each measure and a column for each server. The peer does less: it has no API keys, does not store the input (which
travels in the message), and has no priorities, deadlines, retries or metrics.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from functools import partial
from pathlib import Path

import aiohttp
from rich.console import Console
from rich.table import Table

from tools.compare.client import WAIT, Client
from tools.compare.servers import Server, celery, has_rabbitmq, penstock

REST_S = 10.0
SETTLE_S = 3.0
"""A server may still be busy just after its start."""

Figures = dict[str, float]

MEASURES = {
    "start_s": ("start to first result", "{:.2f} s"),
    "resting_cpu": ("CPU at rest", "{:.2%} of a core"),
    "resting_pss": ("memory at rest, PSS", "{:.0f} MB"),
    "burst.submits_per_s": ("submits accepted, while it works", "{:.0f} /s"),
    "burst.p50_ms": ("  submit answered, p50", "{:.1f} ms"),
    "burst.p99_ms": ("  submit answered, p99", "{:.1f} ms"),
    "burst.tasks_per_s": ("  all submitted, then all done", "{:.0f} tasks/s"),
    "burst.cpu_ms_per_task": ("  CPU, with one look at each", "{:.2f} ms a task"),
    "polled.tasks_per_s": ("submitted and polled", "{:.0f} tasks/s"),
    "polled.p50_ms": ("  submit to seen done, p50", "{:.1f} ms"),
    "polled.p99_ms": ("  submit to seen done, p99", "{:.1f} ms"),
    "polled.cpu_ms_per_task": ("  CPU, with the polls", "{:.2f} ms a task"),
    "waited.tasks_per_s": ("with Prefer: wait", "{:.0f} tasks/s"),
    "waited.p50_ms": ("  submit to answer, p50", "{:.1f} ms"),
    "waited.p99_ms": ("  submit to answer, p99", "{:.1f} ms"),
    "waited.cpu_ms_per_task": ("  CPU", "{:.2f} ms a task"),
    "bulk.submits_per_s": ("submits accepted, 1,000 a request", "{:.0f} /s"),
    "bulk.tasks_per_s": ("  all submitted, then all done", "{:.0f} tasks/s"),
    "bulk.cpu_ms_per_task": ("  CPU", "{:.2f} ms a task"),
    "loaded_pss": ("memory after it, PSS", "{:.0f} MB"),
}


def main() -> None:
    """Runs all measurements and prints one table."""
    options = arguments()
    broker = "RabbitMQ" if has_rabbitmq() else "Redis as broker"
    candidates: dict[str, Callable[[Path], AbstractContextManager[Server]]] = {
        "Penstock": penstock,
        f"Celery, acks_late, {broker}": partial(celery, python=options.peer_python, late=True),
        f"Celery, defaults, {broker}": partial(celery, python=options.peer_python, late=False),
    }
    load = os.getloadavg()[0]
    rounds: dict[str, list[Figures]] = {name: [] for name in candidates}
    memory: dict[str, dict[str, int]] = {}
    for _ in range(options.rounds):
        for name, start in candidates.items():
            print(f"{name} ...", file=sys.stderr)
            with tempfile.TemporaryDirectory(prefix="compare-") as home:
                figures, memory[name] = asyncio.run(measure(start, Path(home), options.tasks, options.clients))
            rounds[name].append(figures)
    medians = {
        name: {key: statistics.median(figures[key] for figures in found) for key in found[0]}
        for name, found in rounds.items()
    }
    Console(width=110).print(table(medians, memory, options, load))
    if not has_rabbitmq():
        print("RabbitMQ is not installed (Debian: rabbitmq-server): Celery ran with Redis as its broker.")
    if options.json:
        options.json.write_text(json.dumps({"figures": rounds, "memory": memory, "load_before": load}, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=1000, help="tasks in each load [1000]")
    parser.add_argument("--clients", type=int, default=8, help="clients in each load [8]")
    parser.add_argument("--rounds", type=int, default=1, help="repeat everything this often and show medians [1]")
    parser.add_argument("--peer-python", default=sys.executable, help="interpreter with tools/compare/requirements.txt")
    parser.add_argument("--json", type=Path, help="write the figures of every round to this file")
    return parser.parse_args()


async def measure(
    start: Callable[[Path], AbstractContextManager[Server]], home: Path, tasks: int, clients: int
) -> tuple[Figures, dict[str, int]]:
    """Starts one server, measures it, stops it; returns the figures, with its memory at rest by process."""
    started = time.perf_counter()
    with start(home) as server:
        connector = aiohttp.TCPConnector(limit=clients)
        async with aiohttp.ClientSession(connector=connector, headers=server.headers, trust_env=False) as session:
            client = Client(server, session)
            await client.first_result()
            figures = {"start_s": time.perf_counter() - started}
            await asyncio.sleep(SETTLE_S)
            cpu_s = server.cpu_s()
            await asyncio.sleep(REST_S)
            figures["resting_cpu"] = (server.cpu_s() - cpu_s) / REST_S
            memory = server.pss_bytes()
            figures["resting_pss"] = sum(memory.values()) / 1e6
            await client.closed(tasks // 10, clients, {})  # warm
            loads = {"burst": await client.burst(tasks, clients), "polled": await client.closed(tasks, clients, {})}
            if await client.waits():
                loads["waited"] = await client.closed(tasks, clients, WAIT)
            await client.bulk(tasks // 10)  # warm
            loads["bulk"] = await client.bulk(tasks)
            figures["loaded_pss"] = sum(server.pss_bytes().values()) / 1e6
    for name, run in loads.items():
        figures |= {f"{name}.{key}": value for key, value in asdict(run).items()}
    return figures, memory


def table(
    medians: dict[str, Figures], memory: dict[str, dict[str, int]], options: argparse.Namespace, load: float
) -> Table:
    """Formats a row for each measure and a column for each server."""
    title = (
        f"no-op tasks, {options.tasks} of each load, {options.clients} clients, {options.rounds} rounds; "
        f"{os.cpu_count()} cores, load average before {load:.2f}"
    )
    found = Table(title=title, title_justify="left", box=None, pad_edge=False)
    found.add_column("", no_wrap=True, style="dim")
    for name in medians:
        found.add_column(name, justify="right")
    for key, (label, form) in MEASURES.items():
        values = [form.format(figures[key]) if key in figures else "–" for figures in medians.values()]
        found.add_row(label, *values)
    parts = ["\n".join(f"{name} {size / 1e6:.0f}" for name, size in memory[server].items()) for server in medians]
    found.add_row("memory at rest by process, MB", *parts)
    return found


if __name__ == "__main__":
    main()
