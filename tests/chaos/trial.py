"""The start and the end of every scenario: usual orders, and at the end everything is read once more and judged."""

import random
from typing import Any

from penstock.settings import QueueSettings
from tests.chaos.checker import Rules, moment
from tests.chaos.client import Order
from tests.chaos.load import Load
from tests.chaos.models import Deed
from tests.chaos.report import Report, report
from tests.chaos.world import World

USUAL_MS = (50, 200)
ORDER_WINDOW = 16
"""The slots of four workers with four slots each."""


def orders(seed: int, tasks: int, ms: tuple[int, int] = USUAL_MS, *, prefix: str = "") -> list[Order]:
    """Returns well-behaved tasks of random length."""
    rng = random.Random(seed)
    return [Order(key=f"{prefix}{seed}-{n}", ms=rng.randint(*ms)) for n in range(tasks)]


def with_deeds(usual: list[Order], seed: int, count: int, deed: Deed, *, timeout_s: float | None = None) -> list[Order]:
    """Returns the same orders, some of which misbehave."""
    chosen = set(random.Random(seed).sample(range(len(usual)), count))
    return [
        Order(key=f"{deed}-{o.key}", ms=o.ms, deed=deed, timeout_s=timeout_s) if n in chosen else o
        for n, o in enumerate(usual)
    ]


async def conclude(world: World, *loads: Load, **figures: float) -> Report:
    """Reads everything again, judges the history and adds the scenario's own figures."""
    for load in loads:
        await load.read_all()
    world.collect()
    queue = QueueSettings()
    rules = Rules(
        max_crashes=int(world.setup.env.get("QUEUE_MAX_CRASHES", queue.max_crashes)),
        max_retries=queue.max_retries,
        order_window=0 if world.setup.redis_environ else ORDER_WINDOW,  # records are ordered by the clock of Redis
    )
    sizes = {"tasks": sum(load.size for load in loads), "took_s": sum(load.took_s for load in loads)}
    return report(world.history.events, rules, tracebacks=world.tracebacks(), **sizes | figures)


def throughput(world: World, load: Load) -> float:
    """Returns the tasks a second between the ends of the first fifth and of four fifths."""
    mine = set(load.tasks.values())
    ended = sorted(moment(r["finished_at"]) for r in records(world) if r["task_id"] in mine and r["finished_at"])
    first, last = len(ended) // 5, len(ended) * 4 // 5
    return (last - first) / max(0.001, ended[last] - ended[first])


def records(world: World) -> list[dict[str, Any]]:
    """Returns the last record of each task."""
    return list({e.task: e.view for e in world.history.of("record") if e.view}.values())


def codes(world: World) -> dict[str, int]:
    """Returns how many tasks failed with each code."""
    found: dict[str, int] = {}
    for record in records(world):
        if record["error"]:
            code = record["error"]["code"]
            found[code] = found.get(code, 0) + 1
    return found
