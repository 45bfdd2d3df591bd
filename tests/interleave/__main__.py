"""Runs callers against each other in every order of their calls, and checks each end state.

    python -m tests.interleave [--seconds 90]                  pairs, with three preemptions at most
    python -m tests.interleave --all [--seconds 600] [--seed]  pairs in all orders, with deaths; then triples, by chance
    python -m tests.interleave --replay 'a-runs finish+cancel 0101'

The exit status is 1 when anything is wrong. A fault is printed with the text that replays it.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import uvloop
from loguru import logger

from tests.interleave.explorer import Bounds, Replay
from tests.interleave.meeting import Meeting, Stage, meetings
from tests.interleave.world import open_world
from tests.support import redis_server
from tests.support.monitor import monitoring

SHORT, SHORT_WITH_DEATH = Bounds(most_preemptions=3), Bounds(most_preemptions=1)
EVERY_ORDER = Bounds(most_choices=24)


def main() -> int:
    """Returns the exit status, which is 1 when anything is wrong."""
    options = _options()
    logger.remove()
    with tempfile.TemporaryDirectory() as directory:
        return uvloop.run(_run(options, Path(directory)))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="try all orders of pairs, then triples")
    parser.add_argument("--only", default="", help="try only meetings whose text contains this")
    parser.add_argument("--replay", help="play one meeting with its choices")
    parser.add_argument("--first", action="store_true", help="stop at the first fault")
    parser.add_argument("--seconds", type=float, help="stop after this many seconds [90; with --all 600]")
    parser.add_argument("--seed", type=int, help="seed for the choice of triples [random]")
    parser.add_argument("--server", type=Path, help="binary of another Redis or Valkey")
    return parser.parse_args()


async def _run(options: argparse.Namespace, directory: Path) -> int:
    with redis_server.on_socket(directory, options.server) as socket, monitoring(socket) as monitor:
        async with open_world(socket) as world:
            stage = Stage(world, monitor)
            if options.replay:
                return await _replay(stage, options.replay)
            return await _explore(stage, options)


async def _replay(stage: Stage, text: str) -> int:
    meeting, _, choices = text.strip().rpartition(" ")
    what = await stage.play(Meeting.of(meeting), Replay(list(map(int, choices))))
    print("\n".join([*stage.calls, "", *(what or ["nothing is wrong"])]))
    return 1 if what else 0


async def _explore(stage: Stage, options: argparse.Namespace) -> int:
    """Explores pairs, then the same with deaths, then triples."""
    until = time.monotonic() + (options.seconds or (600 if options.all else 90))
    found: dict[tuple[str, ...], str] = {}

    async def explore(title: str, some: list[Meeting], bounds: Bounds) -> None:
        started, orders, done = time.monotonic(), stage.runs, 0
        for meeting in some:
            if time.monotonic() > until or (options.first and found):
                break
            for fault in await stage.explore(meeting, bounds):
                found.setdefault(fault.what, fault.replay)
            done += 1
        cut = "" if done == len(some) else f" of {len(some):,}"
        took_s = time.monotonic() - started
        print(f"{title}: {done:,}{cut} meetings, {stage.runs - orders:,} orders, {took_s:.0f} s", flush=True)

    alive, dying = (EVERY_ORDER, SHORT) if options.all else (SHORT, SHORT_WITH_DEATH)
    pairs = [pair for pair in meetings(2) if options.only in str(pair)]
    await explore("pairs", pairs, alive)
    deaths = [death for pair in pairs for death in stage.deaths(pair)]
    random.Random(0).shuffle(deaths)  # so that a slow machine, which stops early, has tried some of each situation
    await explore("pairs of which one dies", deaths, dying)
    if options.all:
        seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
        triples = [triple for triple in meetings(3) if options.only in str(triple)]
        random.Random(seed).shuffle(triples)
        await explore(f"triples by seed {seed}", triples, SHORT)
    for what, replay in found.items():
        print(f"\n{'; '.join(what)}\n  python -m tests.interleave --replay '{replay}'")
    print(f"\n{stage.runs:,} orders, {stage.ends:,} different ends, {len(found)} different faults")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
