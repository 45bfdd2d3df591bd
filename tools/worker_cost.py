"""How much CPU does a worker take for a task that does nothing, by how many tasks are in flight?

    python -m tools.worker_cost [--tasks 600] [--rounds 5]

Starts a Redis and a worker process with the model noop-v1, and lets so many clients submit one task after the other:
straight to the store, so that no API takes part. The CPU time is that of all threads of the worker, in nanoseconds of
the kernel, without what a worker at rest takes. The table has the median of the rounds, which take the loads in turns.
`PYTHONPATH=OTHER/src` measures another checkout.
"""

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import msgspec
import uvloop
from msgspec.structs import replace

from penstock.core.request import Source
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Store, connect
from penstock.worker.devices import cpu
from tests.support import redis_server
from tests.support.drive import image
from tests.support.stores import submission

MODEL = "noop-v1"
NAMESPACE = "cost"
WARM_UP = 300
"""Tasks after which caches and the estimates of the worker are as they stay."""
LOADS = (1, 8, 64)


def main() -> None:
    """Print a line for each load."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=600, help="tasks of each round of a load")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    load_before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, redis_server.on_socket(Path(folder)) as socket:
        url = f"unix://{socket}"
        with worker(url, folder) as pid:
            costs = uvloop.run(measured(url, pid, options.tasks, options.rounds))
    print("| in flight | worker, CPU ms a task | least |\n| ---: | ---: | ---: |")
    for in_flight, each in costs.items():
        print(f"| {in_flight} | {statistics.median(each):.3f} | {min(each):.3f} |")
    print(f"\n{options.rounds} rounds of {options.tasks} tasks, load average before {load_before:.1f}")


@contextmanager
def worker(redis_url: str, folder: str) -> Iterator[int]:
    """Runs a worker process, and yields its id."""
    env = os.environ | {
        "REDIS_URL": redis_url,
        "PENSTOCK_REDIS_NAMESPACE": NAMESPACE,
        "PENSTOCK_STORAGE_DIRECTORY": f"{folder}/objects",
        "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
        "PENSTOCK_MODELS_SERVE": MODEL,
        "PENSTOCK_TELEMETRY_LOG_FORMAT": "json",
    }
    device = msgspec.json.encode(cpu()).decode()
    command = [sys.executable, "-m", "penstock", "worker-process", "--device", device, "--id", "w"]
    with Path(folder, "worker.log").open("w") as log, subprocess.Popen(command, env=env, stderr=log) as process:
        try:
            yield process.pid
        finally:
            process.terminate()


async def measured(redis_url: str, pid: int, tasks: int, rounds: int) -> dict[int, list[float]]:
    """Returns for each load the milliseconds a task, of each round."""
    costs: dict[int, list[float]] = {in_flight: [] for in_flight in LOADS}
    async with connect(RedisSettings(url=redis_url, namespace=NAMESPACE)) as client:
        store = Store(Engine(client, NAMESPACE, QueueSettings()))
        async with hearing(store) as ends:
            await through(store, ends, WARM_UP, in_flight=8)
            for _ in range(rounds):
                for in_flight, each in costs.items():
                    each.append(1000 * await cost_s(store, ends, pid, tasks, in_flight))
    return costs


async def cost_s(store: Store, ends: "Ends", pid: int, tasks: int, in_flight: int) -> float:
    """Returns the seconds of CPU of one task."""
    rest_s = await at_rest(pid)
    before_s, began = cpu_s(pid), time.perf_counter()
    await through(store, ends, tasks, in_flight)
    took_s = time.perf_counter() - began
    return (cpu_s(pid) - before_s - rest_s * took_s) / tasks


async def at_rest(pid: int) -> float:
    """Returns the share of a core that the worker takes without tasks."""
    before_s = cpu_s(pid)
    await asyncio.sleep(1)
    return cpu_s(pid) - before_s


def cpu_s(pid: int) -> float:
    """Returns the seconds of CPU that the threads of a process have taken, the kernel's part included."""
    run_ns = (int(stat.read_text().split()[0]) for stat in Path(f"/proc/{pid}/task").glob("*/schedstat"))
    return sum(run_ns) / 1e9


Ends = dict[str, asyncio.Event]
"""What is set when the task of this id has ended."""


async def through(store: Store, ends: Ends, tasks: int, in_flight: int) -> None:
    """Submits tasks, so many at a time, and waits for the end of each."""
    left = iter(range(tasks))

    async def client() -> None:
        for _ in left:
            await one(store, ends)

    await asyncio.gather(*(client() for _ in range(in_flight)))


async def one(store: Store, ends: Ends) -> None:
    """Submits a task, whose small image is in its record, and waits for its end."""
    asked = submission(model=MODEL)
    ended = ends[asked.id] = asyncio.Event()
    request = replace(asked.request, inputs={"image": Source(data=image())})
    await store.tasks.submit(replace(asked, request=request), rate_limit=0)
    async with asyncio.timeout(60):
        await ended.wait()


@asynccontextmanager
async def hearing(store: Store) -> AsyncIterator[Ends]:
    """Yields events, and sets each when its task has ended."""
    ends: Ends = {}
    messages = store.tasks.ends()
    assert not await anext(messages), "the first says that nothing is missed from now on"

    async def hear() -> None:
        async for task_id in messages:
            if ended := ends.pop(task_id, None):
                ended.set()

    listening = asyncio.create_task(hear())
    try:
        yield ends
    finally:
        listening.cancel()


if __name__ == "__main__":
    main()
