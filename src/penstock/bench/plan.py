"""The plan of a run, and the order and times of its tasks, which depend on the plan alone."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from penstock.core.task import Priority
from penstock.errors import ConfigurationError

NOOP = "noop-v1"
"""The model that measures the server itself."""

DEFAULT_TASKS = 12
"""Two rounds of the built-in images: some minutes of super-resolution on two cores."""

DEFAULT_CLIENTS = 8
"""Twice the slots of a worker: the queue is never empty, so that the worker is the bottleneck."""

PICTURES = (".png", ".svg")


class Plan(Struct, frozen=True, kw_only=True):
    """One run. Open loop with `rate` (tasks per second, whatever the server does; infinite is a burst), else closed
    with `clients`, each of which sees the end of its task before it sends the next. Ends after `tasks` or
    `duration_s`. Tasks are polled, or with `wait` the submit itself is asked to wait for the end. With `batch` they are
    sent as the lines of batches, so many in each, or 0 for as many as one request takes."""

    model: str
    url: str | None = None
    api_key: str | None = None
    metrics_url: str | None = None
    images: tuple[Path, ...] = ()
    tasks: int | None = None
    duration_s: float | None = None
    clients: int | None = None
    rate: float | None = None
    mix: dict[Priority, int]
    wait: bool = False
    batch: int | None = None
    bare: bool = True
    json: Path | None = None
    plot: Path | None = None

    @property
    def mode(self) -> str:
        """The plan in words, for the head of the report."""
        if self.batch is not None:
            return f"batches of {self.batch} lines" if self.batch else "batches as long as a request may be"
        if self.rate is None:
            waiting = ", Prefer: wait" if self.wait else ""
            return f"closed loop, {self.clients} client{'s' if self.clients != 1 else ''}{waiting}"
        return "open loop, all at once" if self.rate == float("inf") else f"open loop, {self.rate:g} tasks/s"


def plan_of(
    *,
    model: str,
    tasks: int | None,
    duration: float | None,
    clients: int | None,
    rate: float | None,
    priority_mix: str,
    wait: bool,
    batch: int | None,
    bare: bool | None,
    json: Path | None,
    plot: Path | None,
    **rest: Any,
) -> Plan:
    """A plan from the options of the command line; the bare loop is left out for a model that does nothing.

    Raises ConfigurationError, one line, for options that contradict one another.
    """
    if clients is not None and rate is not None:
        raise ConfigurationError("bench: give --clients (closed loop) or --rate (open loop), not both")
    if tasks is not None and duration is not None:
        raise ConfigurationError("bench: give --tasks or --duration, not both")
    if rate == float("inf") and duration is not None:
        raise ConfigurationError("bench: --rate inf sends everything at once; give --tasks instead of --duration")
    if wait and rate is not None:
        raise ConfigurationError("bench: --wait holds a connection for every task; it goes with --clients, not --rate")
    if batch is not None and (clients, rate, duration, wait) != (None, None, None, False):
        raise ConfigurationError("bench: --batch sends lines as fast as they are taken; it goes with --tasks alone")
    if plot is not None and plot.suffix not in PICTURES:
        raise ConfigurationError(f"--plot: {plot} must end in {' or '.join(PICTURES)}")
    for option, path in (("--json", json), ("--plot", plot)):
        if path is not None and not path.absolute().parent.is_dir():
            raise ConfigurationError(f"{option}: there is no directory {path.absolute().parent}")
    return Plan(
        model=model,
        tasks=DEFAULT_TASKS if tasks is None and duration is None else tasks,
        duration_s=duration,
        clients=DEFAULT_CLIENTS if clients is None and rate is None and batch is None else clients,
        rate=rate,
        mix=parse_mix(priority_mix),
        wait=wait,
        batch=batch,
        bare=model != NOOP if bare is None else bare,
        json=json,
        plot=plot,
        **rest,
    )


def parse_mix(text: str) -> dict[Priority, int]:
    """`high=1,normal=3` -> shares. Raises ConfigurationError."""
    shares: dict[Priority, int] = {}
    for part in text.split(","):
        name, _, share = part.strip().partition("=")
        if name not in tuple(Priority) or not share.isdecimal() or int(share) < 1 or Priority(name) in shares:
            raise ConfigurationError(f"--priority-mix: {part.strip()!r} is not like high=1; names: high, normal, low")
        shares[Priority(name)] = int(share)
    return shares


def priorities(mix: dict[Priority, int]) -> Iterator[Priority]:
    """Yields priorities for ever, in the shares of the mix and evenly interleaved (smooth weighted round robin of
    nginx)."""
    total, credit = sum(mix.values()), dict.fromkeys(mix, 0)
    while True:
        for name, share in mix.items():
            credit[name] += share
        chosen = max(credit, key=lambda name: credit[name])
        credit[chosen] -= total
        yield chosen


def arrivals(rate: float) -> Iterator[float]:
    """Yields the seconds from the start to each task of an open loop: Poisson arrivals, the same in every run."""
    clock, dice = 0.0, random.Random(1)  # noqa: S311  a load, no secret
    while True:
        yield clock
        clock += dice.expovariate(rate)
