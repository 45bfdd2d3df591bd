"""Two batches in flight on the real CUDA provider, and the threads of a worker on a large host."""

from tests.standin.card import Card

OPEN = """
import asyncio, io, json, os, threading
from concurrent.futures import ThreadPoolExecutor
from PIL import Image
from penstock.core.device import Device
from penstock.core.task import Priority
from penstock.models import scoring, superres
from penstock.net.egress import LOOKUPS_AT_ONCE
from penstock.settings import LimitSettings
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.codecs import CodecThreads
from penstock.worker.threads import Threads, tile_threads
from tests.standin.counts import counts, difference

DEVICE = Device(name="cuda:0", kind="cuda", threads=1, sides=(128, 256), batches=(1, 2, 4))

def photo(side):
    file = io.BytesIO()
    Image.new("RGB", (side, side), "teal").save(file, "PNG")
    return file.getvalue()

async def started(device, model=superres.SuperResolution):
    runner = model(LimitSettings())
    tiles = Threads(tile_threads(device), "tiles")
    scheduler = DeviceScheduler(device, tiles)
    await scheduler.start([runner])
    return scheduler, runner, tiles

def ran(scheduler, runner, side):
    work = runner.prepare(photo(side), runner.params())
    return scheduler.run(runner, work, priority=Priority.NORMAL, on_progress=lambda done, total: None)
"""


def test_results_are_copied_while_the_next_batch_computes_all_to_and_from_locked_memory(card: Card) -> None:
    program = (
        OPEN
        + """
async def main():
    scheduler, runner, _ = await started(DEVICE)
    before = counts()
    runs = await asyncio.gather(*(ran(scheduler, runner, 900) for _ in range(2)))
    took = difference(before)
    await scheduler.close()
    return took, sum(run.work.count for run in runs)

print(json.dumps(asyncio.run(main())))
"""
    )
    took, tiles = card.run(program, answers=True, delay_us=500, copy_us=3000)

    assert tiles == 2 * 25
    assert took["overlapping_copies"] >= 3  # of 13 batches; most, on a machine that has time
    assert took["plans"] == 0
    assert took["locked_bytes_up"] > 0.99 * took["bytes_up"]
    assert took["locked_bytes_down"] > 0.99 * took["bytes_down"]


def test_eight_workers_on_192_cores_have_at_most_1500_threads(card: Card) -> None:
    """Every pool of a worker is filled, with the provider and NumPy loaded as a worker has them."""
    program = (
        OPEN
        + """
os.cpu_count = lambda: 192
os.sched_getaffinity = lambda _: set(range(192))
gate = threading.Event()

async def main():
    device = Device(name="cuda:0", kind="cuda", threads=1, sides=(128,), batches=(1,), cores=192 // 8)
    scheduler, runner, tiles = await started(device, scoring.ImageScoring)
    await ran(scheduler, runner, 100)
    codecs = CodecThreads(device)
    for pool in (codecs.urgent, codecs.usual, tiles, scheduler._stacking, *scheduler._threads._all):
        for _ in range(100):
            pool.run(gate.wait)
    loop, lookups = asyncio.get_running_loop(), ThreadPoolExecutor(LOOKUPS_AT_ONCE)
    for _ in range(100):
        loop.run_in_executor(None, gate.wait)  # the spool's files
        loop.run_in_executor(lookups, gate.wait)
    count = len(os.listdir("/proc/self/task"))
    gate.set()
    return count

count = asyncio.run(main())
print(json.dumps(count), flush=True)
os._exit(0)
"""
    )
    threads = card.run(program, answers=True, environment={"OPENBLAS_NUM_THREADS": "1"})

    assert 50 < threads <= 1500 // 8
