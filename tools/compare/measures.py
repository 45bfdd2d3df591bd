"""What is measured of each server, and in which order."""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from tools.compare.bare import BareLoop
from tools.compare.client import Client, Run
from tools.compare.connection import CompareError
from tools.compare.servers import Load, Server

SETTLE_S = 2.0
"""A server may still be busy just after its first result."""

CROWD = 32
"""Clients of a server that has far more work than it can do at once."""

Start = Callable[[Path, Load], AbstractContextManager[Server]]

Starts = Mapping[str, Start]


class Found(NamedTuple):
    """What was measured with one load: by row every figure, once for each round; by server the memory in bytes of each
    of its processes; and by row the requests that had to be sent again."""

    figures: dict[str, dict[str, list[float]]]
    memory: dict[str, dict[str, int]]
    repeated: dict[str, int]

    def add(self, row: str, measured: Mapping[str, float]) -> None:
        """Adds the figures of a round."""
        for key, value in measured.items():
            self.figures[row][key].append(value)


class Row(NamedTuple):
    """One server, and one way of its clients to get results: `poll`, `wait`, `batch`, or `loop` for the bare loop."""

    label: str
    server: str
    way: str


class Size(NamedTuple):
    """How many tasks are sent: through `clients`, then through one, then through CROWD."""

    tasks: int
    clients: int
    alone: int
    crowd: int

    def times(self, factor: float) -> "Size":
        """Returns a load of more tasks, or fewer."""
        tasks, alone, crowd = (math.ceil(number * factor) for number in (self.tasks, self.alone, self.crowd))
        return self._replace(tasks=tasks, alone=alone, crowd=crowd)


async def _submits(client: Any, size: Size) -> dict[str, float]:
    run = await client.burst(size.tasks)
    return {"submits_per_s": run.tasks_per_s}


async def _loaded(client: Any, size: Size) -> dict[str, float]:
    run = await client.closed(size.tasks, size.clients)
    return {"tasks_per_s": run.tasks_per_s, "cpu_ms": run.cpu_ms_per_task}


async def _in_a_batch(client: Any, size: Size) -> dict[str, float]:
    run = await client.batch(size.tasks)
    return {"tasks_per_s": run.tasks_per_s, "cpu_ms": run.cpu_ms_per_task}


async def _alone(client: Any, size: Size) -> dict[str, float]:
    return _percentiles("alone", await client.closed(size.alone, 1))


async def _crowded(client: Any, size: Size) -> dict[str, float]:
    return _percentiles("crowd", await client.closed(size.crowd, CROWD)) if size.crowd else {}


STEPS: tuple[dict[str, Callable[[Any, Size], Awaitable[dict[str, float]]]], ...] = (
    {"poll": _submits},
    {"loop": _loaded, "poll": _loaded, "wait": _loaded, "batch": _in_a_batch},
    {"loop": _alone, "poll": _alone, "wait": _alone},
    {"wait": _crowded},
)
"""By the way of a row: what is measured. Each step is taken by all rows, one after the other, before the next."""


async def rested(starts: Starts, load: Load, rest_s: float, into: Found) -> None:
    """Starts each server, alone on the machine, and stops it: seconds to its first result, and after so many seconds at
    rest its CPU time as a share of a core, and its memory. All must give the same result."""
    results = {}
    for name, start in starts.items():
        began = time.perf_counter()
        with TemporaryDirectory(prefix="compare-") as home, start(Path(home), load) as server:
            client = client_of(server)
            results[name] = _data(await client.first_result())
            into.add(name, {"start_s": time.perf_counter() - began})
            client.close()
            if rest_s:
                await asyncio.sleep(SETTLE_S)
                cpu_s = server.cpu_s()
                await asyncio.sleep(rest_s)
                into.memory[name] = memory = server.pss_bytes()
                rest_cpu = (server.cpu_s() - cpu_s) / rest_s
                into.add(name, {"rest_cpu": rest_cpu, "pss_mb": sum(memory.values()) / 1e6})
    if any(result != results[name] for result in results.values()):
        raise CompareError(f"not all servers give the same result: {results}")


async def in_turns(starts: Starts, rows: Sequence[Row], load: Load, size: Size, rounds: int, into: Found) -> None:
    """Runs all servers at a time, of which one has work: each step of each round is taken by one row after the other.
    What disturbs the machine for a while disturbs all of them alike."""
    with ExitStack() as stack:
        servers = {}
        for name, start in starts.items():
            home = Path(stack.enter_context(TemporaryDirectory(prefix="compare-")))
            servers[name] = stack.enter_context(start(home, load))
        clients = {row: client_of(servers[row.server], waits=row.way == "wait") for row in rows}
        for client in clients.values():
            await client.first_result()
            await client.closed(size.alone, size.clients)  # warm
            client.close()
        for _ in range(rounds):
            for step in STEPS:
                for row, client in clients.items():
                    if row.way in step:
                        into.add(row.label, await step[row.way](client, size))
                        client.close()  # a server closes a connection that has been idle for some seconds
        into.repeated.update({row.label: client.repeated for row, client in clients.items() if client.repeated})


def client_of(server: Server, *, waits: bool = False) -> Client | BareLoop:
    """Returns what sends tasks to this server."""
    return Client(server, waits=waits) if server.url else BareLoop(server)


def _data(result: Any) -> Any:
    """The answer inside a result of Penstock, or the result of another server."""
    return result.get("data", result)


def _percentiles(name: str, run: Run) -> dict[str, float]:
    """By nearest rank."""
    ordered = sorted(run.took_ms)
    return {f"{name}_p{n}": ordered[-(-len(ordered) * n // 100) - 1] for n in (50, 99)}
