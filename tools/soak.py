"""Does the memory of a worker stay flat over thousands of mixed tasks?

    python -m tools.soak [--tasks 10000] [--clients 8] [--seed 2026] [--json FILE]

Sends both built-in models images of 24 to 2048 px in three formats, with three priorities and three output formats;
every twentieth image is truncated, and every fortieth task is canceled. After each hundredth of the tasks it reads the
memory of each process of the server (RSS, from /proc). The table has a row for each process. Its slope is that of the
least-squares line through the second half of the readings, when caches are full: near 0 bytes a task is flat.
"""

import argparse
import asyncio
import base64
import json
import os
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from penstock.bench import processes
from penstock.local.children import die_with_parent
from penstock.settings import clean_environment

PHOTO = Path(__file__).parents[1] / "src/penstock/models/photo.jpg"
SAMPLES = 100
SCORED_SIDES = (64, 224, 300, 512, 777, 1024, 1600, 2048)
ENLARGED_SIDES = (24, 33, 48, 64, 80, 96)
"""Small sides, since the time of the model grows with the pixels; they give tiles of as many shapes."""

ENDS = ("SUCCESS", "FAILED", "CANCELED", "EXPIRED")
WORKER = "worker-process"


@dataclass
class Soak:
    """The readings: the number of ends by status, and the RSS in bytes of each process by name and number of tasks."""

    ends: Counter[str] = field(default_factory=Counter)
    done: list[int] = field(default_factory=list)
    rss: dict[str, list[int]] = field(default_factory=dict)

    def look(self, root: int) -> None:
        """Records the memory of every process of the server."""
        self.done.append(self.ends.total())
        for pid in processes.tree(root):
            self.rss.setdefault(_name(pid, root), []).append(_rss(pid))

    def slope(self, name: str) -> float:
        """Returns the growth in bytes a task over the second half."""
        half = len(self.done) // 2
        return float(np.polyfit(self.done[half:], self.rss[name][half:], 1)[0])


def main() -> None:
    """Runs the tasks and prints a row for each process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-soak-") as home:
        soak = asyncio.run(_soak(options, Path(home)))
    _print(soak)
    if options.json:
        options.json.write_text(json.dumps({"ends": soak.ends, "done": soak.done, "rss": soak.rss}) + "\n")


async def _soak(options: argparse.Namespace, home: Path) -> Soak:
    command = [sys.executable, "-m", "penstock", "up", "--port", "0", "--data-dir", str(home), "--json"]
    environ = {"GPU_IDS": "cpu", "RATE_LIMIT_PER_MINUTE": "0", "PENSTOCK_TELEMETRY_LOG_LEVEL": "ERROR"}
    server = await asyncio.create_subprocess_exec(
        *command, env=clean_environment() | environ, stdout=asyncio.subprocess.PIPE, preexec_fn=die_with_parent
    )
    assert server.stdout is not None
    line = await server.stdout.readline()
    if not line:
        raise SystemExit("the server did not start")
    address = json.loads(line)
    headers = {"x-api-key": address["api_key"]}
    soak, tasks = Soak(), _bodies(options.tasks, random.Random(options.seed))
    try:
        async with aiohttp.ClientSession(address["url"], headers=headers, trust_env=False) as http:
            with Progress(console=Console(stderr=True), transient=True) as progress:
                bar = progress.add_task("tasks", total=options.tasks)

                async def client() -> None:
                    for number, body in tasks:
                        soak.ends[await _end_of(http, number, body)] += 1
                        progress.advance(bar)
                        if soak.ends.total() % max(1, options.tasks // SAMPLES) == 0:
                            soak.look(server.pid)

                await asyncio.gather(*(client() for _ in range(options.clients)))
    finally:
        server.terminate()
        await server.wait()
    return soak


async def _end_of(http: aiohttp.ClientSession, number: int, body: dict[str, Any]) -> str:
    async with http.post("/v1/tasks", json=body, raise_for_status=True) as answer:
        path = answer.headers["location"]
    if number % 40 == 39:
        async with http.post(f"{path}/cancel"):
            pass  # the task may have ended before
    while True:
        async with http.get(path, params={"wait": "30"}, raise_for_status=True) as answer:
            status = str((await answer.json())["status"])
        if status in ENDS:
            return status


def _bodies(count: int, chance: random.Random) -> Iterator[tuple[int, dict[str, Any]]]:
    scored = [_uri(side, form) for side in SCORED_SIDES for form in ("JPEG", "PNG", "WEBP")]
    enlarged = [_uri(side, form) for side in ENLARGED_SIDES for form in ("JPEG", "PNG", "WEBP")]
    broken = [_uri(side, "JPEG", share=0.5) for side in SCORED_SIDES]
    for number in range(count):
        scores = chance.random() < 0.75
        uri = chance.choice(broken if number % 20 == 19 else scored if scores else enlarged)
        body: dict[str, Any] = {"input": {"image_url": uri}, "priority": chance.choice(("low", "normal", "high"))}
        body |= {"model": "image-scoring-v1" if scores else "superres-x4", "reuse": False}
        if not scores:
            body |= {"params": {"variant": chance.choice(("general", "clean"))}}
            body |= {"output": {"format": chance.choice(("png", "jpeg", "webp"))}}
        yield number, body


def _uri(side: int, form: str, *, share: float = 1.0) -> str:
    out = BytesIO()
    size = (side, max(16, side * 2 // 3))
    Image.open(PHOTO).convert("RGB").resize(size, Image.Resampling.BICUBIC).save(out, form, quality=85)
    data = out.getvalue()[: int(out.tell() * share)]
    return f"data:image/{form.lower()};base64," + base64.b64encode(data).decode()


def _name(pid: int, root: int) -> str:
    line = (processes.PROC / str(pid) / "cmdline").read_text().split("\0")
    if pid == root:
        return "penstock up"
    return next((word for word in line if word in (WORKER, "api")), Path(line[0].partition(" ")[0]).name)


def _rss(pid: int) -> int:
    pages = int((processes.PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _print(soak: Soak) -> None:
    ends = ", ".join(f"{count} {status}" for status, count in soak.ends.most_common())
    table = Table(title=f"{soak.ends.total()} tasks: {ends}", title_justify="left", box=None, pad_edge=False)
    for column in ("RSS, MB", "at first", "at half time", "at the end", "most", "slope, second half"):
        table.add_column(column, justify="left" if column == "RSS, MB" else "right")
    for name, rss in soak.rss.items():
        if len(rss) == len(soak.done):
            moments = (rss[0], rss[len(rss) // 2], rss[-1], max(rss))
            table.add_row(name, *(f"{size / 1e6:.0f}" for size in moments), f"{soak.slope(name):+.0f} bytes a task")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
