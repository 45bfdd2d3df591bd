"""How much memory does each process of a server take that does nothing?

    python -m tools.process_memory [--tasks 300] [--processes 1]

Starts `penstock up` with the model that does nothing, and looks at each process when it is ready, and again when it has
run some tasks. Pages that processes share are divided among them (proportional set size), also with other programs of
the machine: `files` are such pages of programs and libraries, and what only this server needs is `own`.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from penstock.bench import processes
from penstock.client import Client
from penstock.settings import clean_environment

MB = 1e6
PARTS = {"PSS": "Pss", "own": "Pss_Anon", "files": "Pss_File", "resident": "Rss"}
"""Columns -> the names of `smaps_rollup`, in proc_pid_smaps(5)."""

PHOTO = Path(__file__).parents[1] / "src/penstock/models/photo.jpg"


class Held(NamedTuple):
    """What a process holds, in bytes, by the names of PARTS."""

    process: str
    bytes: dict[str, int]


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=300)
    parser.add_argument("--processes", type=int, default=1, help="processes of the API")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("wb") as log:
        command = ["up", "--port", "0", "--data-dir", folder, "--json"]
        environment = clean_environment() | {
            "GPU_IDS": "cpu",
            "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
            "PENSTOCK_MODELS_SERVE": "noop-v1",
            "PENSTOCK_API_PROCESSES": str(options.processes),
            "RATE_LIMIT_PER_MINUTE": "0",
        }
        argv = [sys.executable, "-m", "penstock", *command]
        with subprocess.Popen(argv, env=environment, stdout=subprocess.PIPE, stderr=log) as server:
            try:
                assert server.stdout is not None
                address = json.loads(server.stdout.readline())
                show("ready", held_by(server.pid))
                with Client(address["url"], address["api_key"]) as client:
                    for _ in range(options.tasks):
                        client.run(PHOTO, "noop-v1")
                show(f"after {options.tasks} tasks", held_by(server.pid))
            finally:
                server.terminate()


def held_by(root: int) -> list[Held]:
    """Returns what each process of a server holds."""
    return list(_held_by(root))


def _held_by(root: int) -> Iterator[Held]:
    for pid in processes.tree(root):
        text = (processes.PROC / str(pid) / "smaps_rollup").read_text()
        sizes = {kind: int(kib) * 1024 for kind, kib in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)}
        yield Held(_name(pid), {column: sizes[kind] for column, kind in PARTS.items()})


def _name(pid: int) -> str:
    words = re.split(r"[\0 ]", (processes.PROC / str(pid) / "cmdline").read_text())
    return words[words.index("penstock") + 1] if "penstock" in words else os.path.basename(words[0])  # noqa: PTH119


def show(when: str, held: list[Held]) -> None:
    """Prints a line of Markdown for each process, in MB."""
    print(f"| {when}, MB | {' | '.join(PARTS)} |\n| --- |{' ---: |' * len(PARTS)}")
    for one in held:
        print(f"| {one.process} | {' | '.join(f'{one.bytes[column] / MB:.1f}' for column in PARTS)} |")
    sums = {column: sum(one.bytes[column] for one in held) / MB for column in PARTS}
    print(f"| **all** | {' | '.join(f'**{sums[column]:.1f}**' for column in PARTS if column != 'resident')} | |\n")


if __name__ == "__main__":
    main()
