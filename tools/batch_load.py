"""How fast is a batch of many lines, and how much does it slow another user down?

    python -m tools.batch_load [--lines 50000]

Starts a server on the CPU with the model that does nothing, so that the figures are those of the server. Another API
key sends one task after the other and waits for each: before the batch, while its lines are checked, and while they
run. The table has a row for each phase: compare its latency with that of the first row.
"""

import argparse
import asyncio
import base64
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from rich.console import Console

from penstock.bench.figures import percentile
from penstock.bench.plan import NOOP
from penstock.bench.server import MODULES
from penstock.settings import RedisSettings
from penstock.store import connect
from penstock.store.keys import Keys

BATCH_KEY, OTHER_KEY = "the-key-of-the-batch", "the-key-of-another-user"
QUIET_TASKS = 100


class Other:
    """A second user, who sends tasks one after the other. It keeps the latency (ms) of each task by phase."""

    def __init__(self, client: httpx.AsyncClient, image: str) -> None:
        self._client = client
        self._task = {"model": NOOP, "input": {"image_url": image}, "reuse": False}
        self.phase = "before"
        self.took: dict[str, list[float]] = {}

    async def send(self) -> None:
        """Sends one task and waits for its end."""
        phase, began = self.phase, time.perf_counter()
        answer = await self._client.post("/v1/tasks", json=self._task, headers={"Prefer": "wait=60"})
        assert answer.status_code == 200, answer.text
        self.took.setdefault(phase, []).append((time.perf_counter() - began) * 1000)

    async def go_on(self) -> None:
        """Sends tasks until it is cancelled, at most ten a second."""
        while True:
            await self.send()
            await asyncio.sleep(0.1)


def main() -> None:
    """Runs the measurement and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, default=50_000)
    options = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="batch-load-") as home:
        server = _server(Path(home))
        try:
            address = json.loads(server.stdout.readline()) if server.stdout else {}
            console = Console(highlight=False, width=100)
            console.print(f"{os.cpu_count()} cores, load average before {load:.2f}, {options.lines:,} lines")
            asyncio.run(_measure(address["url"], Path(home), options.lines, console))
        finally:
            server.terminate()
            server.wait(30)


async def _measure(url: str, home: Path, lines: int, console: Console) -> None:
    image = _image()
    async with _client(url, BATCH_KEY) as client, _client(url, OTHER_KEY) as others:
        other = Other(others, image)
        for _ in range(QUIET_TASKS):
            await other.send()
        going_on = asyncio.create_task(other.go_on())
        other.phase, began = "checked", time.perf_counter()
        batch_id = await _submit(client, image, lines)
        accepted_s = time.perf_counter() - began
        other.phase = "runs"
        while (await _view(client, batch_id))["status"] == "RUNNING":
            await asyncio.sleep(0.5)
        ended_s = time.perf_counter() - began - accepted_s
        going_on.cancel()
        began = time.perf_counter()
        rows = (await client.get(f"/v1/batches/{batch_id}/results")).text.splitlines()
        manifest_s = time.perf_counter() - began
    tasks = {json.loads(row)["task_id"] for row in rows if json.loads(row)["status"] == "SUCCESS"}
    assert len(rows) == len(tasks) == lines, "every line once"
    console.print(
        f"accepted (all lines checked) in {accepted_s:.1f} s, ended {ended_s:.1f} s later: {lines / ended_s:.0f}/s"
    )
    console.print(
        f"manifest of all lines: {manifest_s:.1f} s; of a batch, Redis keeps {await _memory(home, batch_id, lines)}"
    )
    for phase, took in other.took.items():
        took.sort()
        p50, p99 = percentile(took, 50), percentile(took, 99)
        console.print(f"a task of another user, {phase:8} {p50:7.1f} ms p50 {p99:7.1f} ms p99  ({len(took)} tasks)")


async def _submit(client: httpx.AsyncClient, image: str, lines: int) -> str:
    body = "\n".join(
        json.dumps({"custom_id": f"line {n}", "input": {"image_url": image}, "reuse": False}) for n in range(lines)
    )
    answer = await client.post(
        "/v1/batches",
        params={"options": json.dumps({"defaults": {"model": NOOP}})},
        content=body,
        headers={"content-type": "application/jsonl"},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["batch_id"])


async def _view(client: httpx.AsyncClient, batch_id: str) -> dict[str, Any]:
    view: dict[str, Any] = (await client.get(f"/v1/batches/{batch_id}")).raise_for_status().json()
    return view


async def _memory(home: Path, batch_id: str, lines: int) -> str:
    socket = next(home.rglob("redis.sock"))
    keys = Keys(RedisSettings().namespace)
    async with connect(RedisSettings(url=f"unix://{socket}")) as redis:
        ends = await redis.memory_usage(keys.ends(batch_id), samples=0)
        record = await redis.memory_usage(keys.batch(batch_id))
    return f"{record + ends:,} bytes ({ends / lines:.1f} a line)"


def _client(url: str, key: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=url, headers={"x-api-key": key}, timeout=120, trust_env=False)


def _image() -> str:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


def _server(home: Path) -> "subprocess.Popen[str]":
    environ = os.environ | {
        "GPU_IDS": "cpu",
        "API_KEYS": f"batch:{BATCH_KEY},other:{OTHER_KEY}",
        "RATE_LIMIT_PER_MINUTE": "0",
        "PENSTOCK_MODELS_MODULES": MODULES[NOOP],
        "PENSTOCK_MODELS_SERVE": NOOP,
    }
    command = [sys.executable, "-m", "penstock", "up", "--port", "0", "--data-dir", str(home), "--json"]
    return subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


if __name__ == "__main__":
    main()
