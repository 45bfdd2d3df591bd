"""Runs whole installations in one thread, each by a seed that decides everything.

    python -m tests.seeds [--seeds 200] [--from 1]     that many seeds
    python -m tests.seeds --planted [WORDS]            plant faults in a copy; each must be found, and replay
    python -m tests.seeds --seed 7 --lines             one seed, with every command that Redis has done

The exit status is 1 when a rule is broken. A seed does the same each time, on any machine.
"""

import argparse
import gc
import sys
import tempfile
import time
from pathlib import Path

from loguru import logger

from tests.seeds.planted import find_all
from tests.seeds.run import Run, run
from tests.seeds.server import BlockingRedis, simulated_scripts
from tests.support import redis_server

monotonic = time.monotonic


def main() -> int:
    """Returns the exit status, which is 1 when a rule is broken."""
    options = _options()
    if options.planted is not None:
        return 1 if find_all(options.first, options.seeds, options.planted) else 0
    logger.remove()
    with tempfile.TemporaryDirectory() as directory, redis_server.on_socket(Path(directory), options.server) as socket:
        with simulated_scripts():
            redis = BlockingRedis(socket)
            if options.seed is not None:
                return _one(run(options.seed, redis, lines=options.lines), options.lines)
            return _many(redis, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds [200]")
    parser.add_argument("--from", type=int, default=1, dest="first", help="the first of them [1]")
    parser.add_argument("--seconds", type=float, default=1e9, help="begin no further seed after so long")
    parser.add_argument("--seed", type=int, help="run this one only")
    parser.add_argument("--planted", nargs="?", const="", help="plant the faults with these words, and look for each")
    parser.add_argument("--digests", action="store_true", help="print the digest of each seed")
    parser.add_argument("--lines", action="store_true", help="with --seed: print all that happened")
    parser.add_argument("--first-fault", action="store_true", help="stop at the first seed with a fault")
    parser.add_argument("--server", type=Path, help="binary of another Redis or Valkey")
    return parser.parse_args()


def _one(found: Run, lines: bool) -> int:
    print("\n".join(found.lines))
    _tell(found)
    print(found.counts)
    return 1 if found.faults else 0


def _many(redis: BlockingRedis, options: argparse.Namespace) -> int:
    started, done, wrong, simulated_s, commands = monotonic(), 0, 0, 0.0, 0
    for seed in range(options.first, options.first + options.seeds):
        found = run(seed, redis)
        if done == 0:
            gc.freeze()
        if options.digests:
            print(seed, found.digest, flush=True)
        done, simulated_s, commands = done + 1, simulated_s + found.seconds, commands + found.commands
        if found.faults:
            wrong += 1
            _tell(found)
        if (wrong and options.first_fault) or monotonic() - started > options.seconds:
            break
    took_s = monotonic() - started
    print(
        f"{done:,} seeds in {took_s:.0f} s ({done / took_s:.1f} a second): {simulated_s / 60:.0f} simulated minutes, "
        f"{commands:,} commands; {wrong} with faults"
    )
    return 1 if wrong else 0


def _tell(found: Run) -> None:
    print(f"seed {found.seed}: {found.digest}, {found.commands:,} commands, {found.seconds:.1f} s", flush=True)
    for fault in found.faults[:10]:
        print(f"  WRONG {fault}")
    if found.faults:
        print(f"  again: python -m tests.seeds --seed {found.seed} --lines", flush=True)


if __name__ == "__main__":
    sys.exit(main())
