"""How does Penstock compare with what else a task could be sent to?

    python -m tools.compare --all --rounds 3 [--json FILE]

One API process and one worker process of each server run on this machine, and get the same tasks from the same client:
some that do nothing, and photos of 68 kB for a small classifier (decoded in 5 ms, computed in 5 ms, by the same code
in all of them). Each is measured alone at rest; then all run at a time, and have work one after the other. The tables
have the medians of all rounds. A task of Penstock is polled, answered with its result (Prefer: wait), or a line of a
batch. The others do less as they are set up here: no keys, limits, idempotency, fair order, deadlines or metrics; their
input travels in the message, and LitServe keeps nothing at all.

The first run installs the other servers into an environment of their own, which needs a package index.
"""

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from uvloop import run

from tools.compare import tables
from tools.compare.bare import bare
from tools.compare.brokers import has_rabbitmq
from tools.compare.connection import CompareError
from tools.compare.environment import peer_python
from tools.compare.measures import Found, Row, Size, Start, Starts, in_turns, rested
from tools.compare.photos import written
from tools.compare.servers import Load, celery, litserve, penstock, saq
from tools.compare.tables import LITSERVE, LOOP, SAQ, Medians

CELERY, BEFORE, PENSTOCK = "FastAPI + Celery", "before", "Penstock"

SERVERS: dict[str, tuple[str, Callable[..., Any]]] = {
    "bare": (LOOP, bare),
    "celery": (CELERY, celery),
    "saq": (SAQ, saq),
    "litserve": (LITSERVE, litserve),
    "before": (BEFORE, penstock),
    "penstock": (PENSTOCK, penstock),
}
"""By its name on the command line: its name in the tables, and what starts it."""

DEFAULT, ALL = "bare,saq,litserve,penstock", "bare,celery,saq,litserve,penstock"

ROWS = (
    Row(LOOP, LOOP, "loop"),
    Row(CELERY, CELERY, "poll"),
    Row(SAQ, SAQ, "poll"),
    Row(LITSERVE, LITSERVE, "wait"),
    Row(BEFORE, BEFORE, "poll"),
    Row(f"{BEFORE}, wait", BEFORE, "wait"),
    Row(f"{BEFORE}, batch", BEFORE, "batch"),
    Row(PENSTOCK, PENSTOCK, "poll"),
    Row(f"{PENSTOCK}, wait", PENSTOCK, "wait"),
    Row(f"{PENSTOCK}, batch", PENSTOCK, "batch"),
)

TITLES = {"noop": "no-op", "photo": "photo"}

SIZES = {
    "noop": Size(burst=1000, tasks=1000, clients=16, alone=200, crowd=0),
    "photo": Size(burst=0, tasks=120, clients=8, alone=100, crowd=160),
}
"""By load, of each round."""


def main() -> None:
    """Runs all measurements, and prints the tables."""
    options = arguments()
    starts, load_before = starts_of(options), os.getloadavg()[0]
    try:
        found = {name: run(measured(name, starts, options)) for name in options.loads.split(",")}
    except CompareError as error:
        raise SystemExit(f"compare: {error}") from error
    show(found, options, load_before)
    if options.json:
        told = {"load_before": load_before} | {name: load._asdict() for name, load in found.items()}
        options.json.write_text(json.dumps(told, indent=1) + "\n")


def arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_const", dest="servers", const=ALL, default=DEFAULT, help="Celery too")
    parser.add_argument("--servers", help=f"names, with commas, of {', '.join(SERVERS)} [{DEFAULT}]")
    parser.add_argument("--loads", default=",".join(SIZES), help="noop, photo, or both with a comma [both]")
    parser.add_argument("--rounds", type=int, default=3, help="repeat everything this often and show medians [3]")
    parser.add_argument("--tasks", type=float, default=1.0, help="so many times the tasks of each step [1]")
    parser.add_argument("--rest", type=float, default=5.0, help="seconds at rest, after the first start [5]")
    parser.add_argument("--peer-python", help="interpreter that has tools/compare/peers/requirements.txt")
    parser.add_argument("--before", metavar="PYTHON", help="interpreter that has another Penstock, `before`")
    parser.add_argument("--json", type=Path, help="write the figures of every round to this file")
    options = parser.parse_args()
    options.servers = [*options.servers.split(","), *(["before"] if options.before else [])]
    if unknown := {*options.servers} - {*SERVERS} | {*options.loads.split(",")} - {*SIZES}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    return options


def starts_of(options: argparse.Namespace) -> Starts:
    """Returns what starts each server that was asked for, by its name in the tables."""
    ours = {"bare": sys.executable, "before": options.before, "penstock": sys.executable}

    def start_of(name: str) -> Start:
        return partial(SERVERS[name][1], python=ours.get(name) or options.peer_python or peer_python())

    return {label: start_of(name) for name, (label, _) in SERVERS.items() if name in options.servers}


async def measured(name: str, starts: Starts, options: argparse.Namespace) -> Found:
    """Measures all servers with one load. SIGTERM ends the servers before it ends this process."""
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    rows = [row for row in ROWS if row.server in starts and (name == "photo" or row.server != LOOP)]
    found = Found({row.label: defaultdict(list) for row in rows}, {}, {})
    with tempfile.TemporaryDirectory(prefix="compare-") as home:
        load = Load(*written(Path(home))) if name == "photo" else Load()
        compared = {label: starts[label] for label in dict.fromkeys(row.server for row in rows)}
        for number in range(options.rounds):
            print(f"{TITLES[name]}: start {number + 1} of {options.rounds} ...", file=sys.stderr)
            await rested(compared, load, 0 if number else options.rest, found)
        print(f"{TITLES[name]}: {options.rounds} rounds of work ...", file=sys.stderr)
        await in_turns(compared, rows, load, SIZES[name].times(options.tasks), options.rounds, found)
    return found


def show(found: dict[str, Found], options: argparse.Namespace, load_before: float) -> None:
    """Prints the tables."""
    medians = {name: Medians(load.figures) for name, load in found.items()}
    for name in found:
        size = SIZES[name].times(options.tasks)
        print(f"\n{tables.of_load(name, f'{TITLES[name]}, {size.clients} clients', medians[name])}")
    for name, load in found.items():
        print(f"\n{tables.of_rest(f'{TITLES[name]}, at rest', medians[name], load.memory)}")
    print(f"\n{tables.of_bars(medians)}")
    for name, load in found.items():
        for row, count in load.repeated.items():
            print(f"\n{TITLES[name]}: {count} requests to {row} were answered with 503 and sent again.")
    print(f"\nMedians of {options.rounds}; {os.cpu_count()} cores, load average before {load_before:.2f}.")
    if "celery" in options.servers and not has_rabbitmq():
        print("RabbitMQ is not installed (Debian: rabbitmq-server): Celery ran with Redis as its broker.")


if __name__ == "__main__":
    main()
