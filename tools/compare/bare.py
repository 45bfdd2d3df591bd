"""The bare loop as one more of what is compared: a process that runs tasks one after the other, without a server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.compare.client import Run
from tools.compare.connection import CompareError
from tools.compare.servers import Load, Server, running


class BareLoop:
    """The process, which knows no clients: it has one task at a time."""

    repeated = 0

    def __init__(self, server: Server) -> None:
        (self._process,) = server.roots.values()

    async def first_result(self) -> Any:
        """Runs one task and returns its result."""
        return self._ask(1)["answer"]

    async def closed(self, tasks: int, clients: int = 1) -> Run:
        """Runs so many tasks."""
        told = self._ask(tasks)
        return Run(tasks / sum(told["took_ms"]) * 1000, told["took_ms"], told["cpu_s"] / tasks * 1000)

    def close(self) -> None:
        """Has nothing to close: the process ends with its server."""

    def _ask(self, tasks: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{tasks}\n".encode())
        self._process.stdin.flush()
        told: dict[str, Any] = json.loads(self._process.stdout.readline() or b'{"took_ms": []}')
        if not told["took_ms"]:
            raise CompareError("the bare loop has ended")
        return told


@contextmanager
def bare(home: Path, load: Load, python: str = sys.executable) -> Iterator[Server]:
    """Starts the loop, beside which there is no other process."""
    command = [python, "-m", "tools.compare.peers.bare_loop", *map(str, load.photos)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with running(command, home / "bare.log", load.environ, **pipes) as process:
        yield Server("bare loop", [], roots={"bare loop": process})
