"""Runs every kind of actor at once, at random, and prints a report.

    python -m tests.stress [--seconds 60] [--seed 7] [--server PATH]

The exit status is 1 when anything is wrong. The seed decides the choices of the actors, but not the order in which the
machine runs them: the seed of a failed run is a good start, not a replay.
"""

import argparse
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from loguru import logger

from tests.stress.run import Report, stress
from tests.support import redis_server


def main() -> int:
    """Returns the exit status, which is 1 when anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="duration of the faults [60]")
    parser.add_argument("--seed", type=int, help="seed of all choices [random]")
    parser.add_argument("--server", type=Path, help="binary of another Redis or Valkey")
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}, {options.server or redis_server.binary()}", flush=True)
    logger.remove()
    logging.disable()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as directory:
        with redis_server.on_socket(Path(directory), options.server) as socket:
            report = uvloop.run(stress(socket, seconds=options.seconds, seed=seed))
    _tell(report)
    print(f"{time.monotonic() - started:.0f} s; again: python -m tests.stress --seed {seed}")
    return 1 if report.faults else 0


def _tell(report: Report) -> None:
    seen = report.seen
    for what, times in sorted(seen.happened.items()):
        print(f"  {times:7,} {what}")
    most = sorted(report.most_commands.items(), key=lambda row: -row[1])[:5]
    print(f"slowest script {report.slowest_ms:.1f} ms; most commands: {', '.join(f'{n} {c:,}' for n, c in most)}")
    print(f"{len(seen.acknowledged):,} tasks acknowledged, {len(seen.batches):,} batches, {report.looks} looks")
    for fault, times in report.faults.most_common(40):
        print(f"  WRONG {times:5,} {fault}")
    print(f"{len(report.faults)} faults")


if __name__ == "__main__":
    sys.exit(main())
