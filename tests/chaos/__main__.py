"""`python -m tests.chaos --scenario W1 --seed 7` runs scenarios, prints their figures and fails when a bar is missed.

Without arguments it runs the short form of the scenarios that every change must pass.
"""

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import uvloop

from tests.chaos import history
from tests.chaos.checker import Rules
from tests.chaos.nemesis import Skipped
from tests.chaos.report import Report, report, text_of
from tests.chaos.scenarios import SCENARIOS, SHORT, Scenario
from tests.chaos.world import World


def main() -> int:
    """Returns the exit status, which is 1 when a bar was missed."""
    options = _options()
    if options.list:
        print("\n".join(f"{s.id:4} {s.title}" for s in SCENARIOS.values()))
        return 0
    if options.check:
        print(text_of(report(history.read(options.check), Rules())))
        return 0
    if not options.scenario and not options.all:
        options.scenario, options.short = list(SHORT), True
    ids = list(SCENARIOS) if options.all else options.scenario
    failed = [one for one in ids if not _passes(SCENARIOS[one], options)]
    if failed:
        print(f"\nbars missed: {', '.join(failed)}")
    return 1 if failed else 0


def _passes(scenario: Scenario, options: argparse.Namespace) -> bool:
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    tasks = options.tasks or (scenario.short_tasks if options.short else scenario.tasks)
    print(f"{scenario.id}  {scenario.title}\n  seed {seed}, tasks {tasks}", flush=True)
    directory = Path(tempfile.mkdtemp(prefix=f"chaos-{scenario.id}-", dir=options.keep))
    started = time.monotonic()
    try:
        done = uvloop.run(_run(scenario, seed, tasks, directory, options.short))
    except Skipped as reason:
        print(f"  skipped: {reason}\n")
        return True
    print(text_of(done))
    missed = done.missed(scenario.bars)
    print("".join(f"  MISSED {line}\n" for line in missed), end="")
    again = f"python -m tests.chaos --scenario {scenario.id} --seed {seed} --tasks {tasks}"
    print(f"  {f'missed; again: {again}' if missed else 'passed'} ({time.monotonic() - started:.0f} s)")
    if not missed and not options.keep:
        shutil.rmtree(directory, ignore_errors=True)
    else:
        print(f"  history and logs: {directory}")
    print(flush=True)
    return not missed


async def _run(scenario: Scenario, seed: int, tasks: int, directory: Path, is_short: bool) -> Report:
    with scenario.place(scenario.setup, directory) as setup:
        async with World(setup, seed=seed, directory=directory, is_short=is_short) as world:
            return await scenario.run(world, seed, tasks)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="run this scenario (repeatable)")
    parser.add_argument("--all", action="store_true", help="run every scenario")
    parser.add_argument("--short", action="store_true", help="run each scenario in its small size")
    parser.add_argument("--seed", type=int, help="seed of all choices [random]; it is printed")
    parser.add_argument("--tasks", type=int, help="number of tasks, instead of that of the scenario")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="always keep history and logs in DIR")
    parser.add_argument("--list", action="store_true", help="list the scenarios and run none")
    parser.add_argument("--check", type=Path, metavar="FILE", help="judge the history in this file again")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
