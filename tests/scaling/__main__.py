"""Scales real workers 0 → 1 → 0 by the rule of the chart while tasks come, and says what was interrupted.

    python -m tests.scaling [--times 100] [--classes 8] [--variant chart] [--seed 7]

`--times` counts all classes together. The exit status is 1 when the rule of the chart has interrupted a task, or a rule
that should have has not. Without `--variant` all of them run: the chart's as often as asked, the others a fifth of it.
"""

import argparse
import asyncio
import math
import random
import sys
import tempfile
from pathlib import Path

from tests.scaling.model import CLASSES
from tests.scaling.run import VARIANTS, Fleet, Report, Variant

SLOWEST_S = 90.0
"""A class may take so long from zero to zero; on an idle machine it takes 25 s."""


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=100, help="how often workers go to zero, of all classes [100]")
    parser.add_argument("--classes", type=int, default=CLASSES, help=f"classes of workers at a time [{CLASSES}]")
    parser.add_argument("--variant", choices=range(len(VARIANTS)), type=int, help="one alone, by its number from 0")
    parser.add_argument("--seed", type=int, help="seed of what is submitted, and when [random]")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    wrong = 0
    print("| variant | to zero | pods | tasks | interrupted | run twice | given back unbegun | killed | seconds |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |", flush=True)
    for number, variant in enumerate(VARIANTS):
        if options.variant not in (None, number):
            continue
        times = options.times if variant == VARIANTS[0] else max(2 * options.classes, options.times // 5)
        report = asyncio.run(_run(variant, times, options.classes, seed))
        print(_row(report), flush=True)
        wrong += not _is_right(variant, report)
    return 1 if wrong else 0


async def _run(variant: Variant, times: int, classes: int, seed: int) -> Report:
    each = math.ceil(times / classes)
    with tempfile.TemporaryDirectory() as directory:
        fleet = Fleet(variant, classes, Path(directory), seed)
        try:
            return await fleet.run(each, within_s=each * SLOWEST_S)
        finally:
            fleet.kill()


def _row(report: Report) -> str:
    cells = (
        *(report.variant, report.to_zero, report.pods, report.tasks, report.interrupted, report.twice),
        *(report.given_back, report.killed, round(report.seconds)),
    )
    return f"| {' | '.join(map(str, cells))} |"


def _is_right(variant: Variant, report: Report) -> bool:
    """The chart interrupts nothing; what should interrupt does, else this run could not have seen it."""
    if set(report.states) != {"SUCCESS"}:
        print(f"  WRONG: {dict(report.states)}")
        return False
    if variant == VARIANTS[0]:
        return report.interrupted == report.twice == report.killed == 0 and report.outcomes["lost"] == 0
    return report.interrupted > 0 if variant == VARIANTS[1] else True


if __name__ == "__main__":
    sys.exit(main())
