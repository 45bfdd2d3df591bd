"""The command of a ring: it runs scenarios, prints their figures, and says which bars were missed."""

import argparse
import random
import shutil
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import uvloop
from msgspec import Struct

from tests.chaos import history
from tests.chaos.checker import Rules
from tests.chaos.nemesis import Skipped
from tests.chaos.report import Bar, Report, report, text_of
from tests.chaos.world import Setup, World

W = TypeVar("W", bound=World)


@contextmanager
def as_it_is(setup: Setup, directory: Path) -> Iterator[Setup]:
    """Prepares nothing."""
    yield setup


class Scenario(Struct, Generic[W], frozen=True, kw_only=True):
    """One row. `place` prepares the machine and completes the setup; `tasks` are trials where the title says so."""

    id: str
    title: str
    run: Callable[[W, int, int], Awaitable[Report]]
    bars: tuple[Bar, ...]
    tasks: int = 1000
    short_tasks: int = 200
    setup: Setup = Setup()
    place: Callable[[Setup, Path], AbstractContextManager[Setup]] = as_it_is


class Worlds(Protocol[W]):
    """Starts a world, and ends it."""

    def __call__(
        self, setup: Setup, *, seed: int, directory: Path, is_short: bool
    ) -> AbstractAsyncContextManager[W]: ...


class Ring(Struct, Generic[W], frozen=True):
    """Scenarios by their ids, those that run without arguments, and what starts their worlds."""

    prog: str
    description: str
    scenarios: Mapping[str, Scenario[W]]
    short: Sequence[str]
    worlds: Worlds[W]


def main(ring: Ring[W]) -> int:
    """Returns the exit status, which is 1 when a bar was missed."""
    options = _options(ring)
    if options.list:
        print("\n".join(f"{s.id:4} {s.title}" for s in ring.scenarios.values()))
        return 0
    if options.check:
        print(text_of(report(history.read(options.check), Rules())))
        return 0
    if not options.scenario and not options.all:
        options.scenario, options.short = list(ring.short), True
    ids = list(ring.scenarios) if options.all else options.scenario
    failed = [one for one in ids if not _passes(ring, ring.scenarios[one], options)]
    if failed:
        print(f"\nbars missed: {', '.join(failed)}")
    return 1 if failed else 0


def _passes(ring: Ring[W], scenario: Scenario[W], options: argparse.Namespace) -> bool:
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    tasks = options.tasks or (scenario.short_tasks if options.short else scenario.tasks)
    print(f"{scenario.id}  {scenario.title}\n  seed {seed}, tasks {tasks}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix=f"{ring.prog}-{scenario.id}-", dir=options.keep))
    started = time.monotonic()
    try:
        done = uvloop.run(_run(ring, scenario, seed, tasks, directory, options.short))
    except Skipped as reason:
        print(f"  skipped: {reason}\n")
        return True
    print(text_of(done))
    missed = done.missed(scenario.bars)
    print("".join(f"  MISSED {line}\n" for line in missed), end="")
    again = f"python -m {ring.prog} --scenario {scenario.id} --seed {seed} --tasks {tasks}"
    print(f"  {f'missed; again: {again}' if missed else 'passed'} ({time.monotonic() - started:.0f} s)")
    if not missed and not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"  history and logs: {directory}")
    print(flush=True)
    return not missed


async def _run(ring: Ring[W], scenario: Scenario[W], seed: int, tasks: int, directory: Path, is_short: bool) -> Report:
    with scenario.place(scenario.setup, directory) as setup:
        async with ring.worlds(setup, seed=seed, directory=directory, is_short=is_short) as world:
            return await scenario.run(world, seed, tasks)


def _options(ring: Ring[W]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=f"python -m {ring.prog}", description=ring.description)
    parser.add_argument(
        "--scenario", action="append", choices=list(ring.scenarios), help="run this scenario (repeatable)"
    )
    parser.add_argument("--all", action="store_true", help="run every scenario")
    parser.add_argument("--short", action="store_true", help="run each scenario in its small size")
    parser.add_argument("--seed", type=int, help="seed of all choices [random]; it is printed")
    parser.add_argument("--tasks", type=int, help="number of tasks, instead of that of the scenario")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="always keep history and logs in DIR")
    parser.add_argument("--list", action="store_true", help="list the scenarios and run none")
    parser.add_argument("--check", type=Path, metavar="FILE", help="judge the history in this file again")
    return parser.parse_args()
