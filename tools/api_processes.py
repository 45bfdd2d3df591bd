"""How many tasks do one and several processes of the API accept, and at what cost?

    python -m tools.api_processes [--submits 20000] [--rounds 1,2,1,2]

Each round starts a `penstock api` with so many processes on a Redis of its own, without a worker, and sends submits of
`noop-v1` over 64 connections. The client takes a core of its own: with `n` processes the machine needs n + 2 cores, one
of them for Redis, or they share what there is. Then only the CPU time of one submit says something.
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

from PIL import Image
from rich.console import Console

from penstock.bench.figures import percentile
from penstock.bench.plan import NOOP
from penstock.bench.server import MODULES
from penstock.local.children import python
from penstock.settings import (
    ApiSettings,
    ModelSettings,
    QueueSettings,
    RedisSettings,
    Settings,
    StorageSettings,
    TelemetrySettings,
    clean_environment,
    environment_of,
)
from penstock.store import Redis, connect
from tests.support.published import publish_now
from tests.support.redis_server import RedisProcess, free_port

CONNECTIONS = 64
WARM_UP = 500
LISTENING_S = 2.0
"""A process listens some milliseconds after it has read the models; on a busy machine it takes longer."""
KEY = "the-key-of-the-load"
TICKS = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Runs all rounds and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submits", type=int, default=20_000)
    parser.add_argument("--rounds", default="1,2,1,2")
    options = parser.parse_args()
    console = Console(highlight=False, width=140)
    console.print(f"{os.cpu_count()} cores, {options.submits:,} submits a round")
    with tempfile.TemporaryDirectory(prefix="api-processes-") as home, RedisProcess(Path(home)) as redis:
        for number, processes in enumerate(map(int, options.rounds.split(","))):
            settings = _settings(Path(home), redis.url, number, processes)
            console.print(asyncio.run(_round(settings, options.submits, Path(home))), soft_wrap=True)


def _settings(home: Path, redis_url: str, number: int, processes: int) -> Settings:
    return Settings(
        api=ApiSettings(port=free_port(), keys=(KEY,), rate_limit_per_minute=0, processes=processes, linger_s=0),
        redis=RedisSettings(url=redis_url, namespace=f"round-{number}"),
        models=ModelSettings(modules=(MODULES[NOOP],)),
        queue=QueueSettings(max_depth=10**7),
        storage=StorageSettings(directory=str(home / "objects")),
        telemetry=TelemetrySettings(log_format="json"),
    )


async def _round(settings: Settings, submits: int, home: Path) -> str:
    publish_now(settings)
    path = home / f"{settings.redis.namespace}.log"
    with path.open("wb") as log:
        api = subprocess.Popen(python("api"), env=clean_environment() | environment_of(settings), stderr=log)
    try:
        while path.read_bytes().count(b"models published") < settings.api.processes:
            await asyncio.sleep(0.1)
        await asyncio.sleep(LISTENING_S)
        await _load(settings.api.port, WARM_UP)
        children = _children(api.pid)
        serving = children or [api.pid]
        async with connect(settings.redis) as redis:
            before = await _cpu_s(serving, redis)
            began = time.monotonic()
            took = await _load(settings.api.port, submits)
            seconds = time.monotonic() - began
            spent = [after - earlier for earlier, after in zip(before, await _cpu_s(serving, redis), strict=True)]
        client, of_redis, *each = [1000 * cpu / submits for cpu in spent]
        memory = [f"{_pss_mb(pid):.0f}" for pid in (api.pid, *children)]
    finally:
        api.terminate()
        api.wait()
    p50, p99 = (1000 * percentile(took, percent) for percent in (50, 99))
    return (
        f"{settings.api.processes} processes: {submits / seconds:6.0f} submits/s, p50 {p50:.1f} p99 {p99:.1f} ms; "
        f"CPU ms of one: API {sum(each):.2f} ({' '.join(f'{ms:.2f}' for ms in each)}), Redis {of_redis:.2f}, "
        f"client {client:.2f}; PSS {' + '.join(memory)} MB; load average {os.getloadavg()[0]:.1f}"
    )


async def _load(port: int, submits: int) -> list[float]:
    """The time of each submit, in seconds, the shortest first."""
    body = json.dumps({"model": NOOP, "input": {"image_url": _image()}}).encode()
    head = f"POST /v1/tasks HTTP/1.1\r\nHost: here\r\nX-API-Key: {KEY}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    took, refused = list[float](), 0
    left = iter(range(submits))

    async def one() -> None:
        nonlocal refused
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in left:
            began = time.monotonic()
            writer.write(request)
            answer = await reader.readuntil(b"\r\n\r\n")
            size = next(line for line in answer.lower().splitlines() if line.startswith(b"content-length:"))
            await reader.readexactly(int(size.partition(b":")[2]))
            took.append(time.monotonic() - began)
            refused += not answer.startswith(b"HTTP/1.1 202 ")
        writer.close()

    await asyncio.gather(*(one() for _ in range(CONNECTIONS)))
    if refused:
        sys.stderr.write(f"{refused} of {submits} were refused: Redis took more than 0.8 s on this machine\n")
    return sorted(took)


async def _cpu_s(serving: list[int], redis: Redis) -> list[float]:
    """The CPU time so far of this process, of Redis and of each process of the API."""
    info = await redis.info("cpu")
    of_each = [sum(map(int, _stat(pid)[11:13])) / TICKS for pid in serving]
    return [time.process_time(), info["used_cpu_user"] + info["used_cpu_sys"], *of_each]


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def _pss_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("Pss:"))) / 1024


def _image() -> str:
    out = io.BytesIO()
    Image.new("RGB", (1, 1), "teal").save(out, "PNG")
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}"


if __name__ == "__main__":
    main()
