"""One arena for all sessions: how large it grows, what bounds it, and what happens when it is full."""

import pytest

from tests.standin.card import Card

GIB = 1024**3

OPEN = """
import json
import os
import numpy as np
from penstock.core.device import Device
from penstock.errors import DeviceOutOfMemory
from penstock.models.onnxruntime.cuda_device import cuda_device_for
from penstock.models.onnxruntime.session import Session, half, manifest
from tests.standin.counts import counts, difference

def device(**more):
    return Device(name="cuda:0", kind="cuda", threads=1, sides=(128, 256, 512), batches=(1, 2, 4, 8), **more)

def general(**more):
    return Session(half(manifest("cuda")["superres-x4", "general"]), device(**more))

def ran(session, *batches):
    seen = []
    for n, side in batches:
        try:
            session.run(np.zeros((n, side, side, 3), np.uint8))
            seen.append("ran")
        except DeviceOutOfMemory:
            seen.append("out of memory")
    return seen
"""


@pytest.mark.parametrize(
    ("total_gib", "more", "limit"),
    [
        (10, "memory_limit_bytes=80 * 2**30", 8.5),  # a slice of a card whose parent saw the whole
        pytest.param(16, "share=0.5", 6.5, marks=pytest.mark.at_length),
        pytest.param(16, "memory_limit_bytes=2**30", 1.0, marks=pytest.mark.at_length),
    ],
)
def test_what_cuda_says_bounds_the_arena(card: Card, total_gib: int, more: str, limit: float) -> None:
    found = card.run(OPEN + f"general({more}); print(json.dumps(cuda_device_for(device()).limit_bytes))", mem=total_gib)

    assert found == limit * GIB


SERVE = """
import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from penstock.core.device import GPU_SHAPES, Device
from penstock.models import load_runners
from penstock.models.base import registry
from penstock.settings import LimitSettings, ModelSettings
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.threads import Threads
from tests.standin.counts import counts, difference

load_runners(ModelSettings())
served = [registry()[name](LimitSettings()) for name in ("superres-x4", "image-scoring-v1")]
device = Device(name="cuda:0", kind="cuda", threads=1, rectangles=GPU_SHAPES, batches=(1, 2, 4, 8), precision="auto")

async def start():
    pool = Threads(1, "tiles")
    scheduler = DeviceScheduler(device, pool)
    await scheduler.start(served)
    await scheduler.close()
    pool.close()

asyncio.run(start())
after_warm_up = counts()
batches = [(runner, work, size) for runner in served for work in runner.warmup()
           for size in device.batches_of(work.shape)]
chosen = np.random.default_rng(0).permutation(len(batches) * 3)[:100] % len(batches)

def run(number):
    runner, work, size = batches[number]
    runner.infer(np.stack([work.tile(0)] * size), work)

with ThreadPoolExecutor(2) as threads:
    list(threads.map(run, chosen))
print(json.dumps([after_warm_up, difference(after_warm_up)]))
"""


@pytest.mark.at_length
def test_after_the_warm_up_of_all_models_100_mixed_batches_build_nothing_and_fit_what_there_is(card: Card) -> None:
    after, added = card.run(SERVE, answers=True)

    assert after["arena_peak"] <= 4.5e9
    assert added["plans"] == 0
    assert added["mallocs"] <= 1, "the block for the results of the second batch in flight"
    assert added["arena_bytes"] < 0.11e9


def test_a_full_arena_is_emptied_before_a_batch_is_called_too_large(card: Card) -> None:
    seen = card.run(
        OPEN
        + """
session = general(memory_limit_bytes=2_000_000_000)
small = [(n, side) for side in (128, 256) for n in (1, 2, 4, 8)] + [(1, 512), (2, 512), (4, 512)]
ran(session, *small)
full = counts()["arena_bytes"]
print(json.dumps([full, ran(session, (8, 512)), ran(session, (8, 512), *small), counts()["arena_bytes"]]))
"""
    )

    full, first, then, after = seen
    assert full > 1_000_000_000, "blocks of no use to a larger batch, which needs 1.6 GB"
    assert first == ["ran"]
    assert then == ["ran"] * 12
    assert after < 2_000_000_000


def test_a_batch_that_does_not_fit_is_out_of_memory_and_smaller_ones_go_on(card: Card) -> None:
    seen = card.run(
        OPEN
        + "session = general(memory_limit_bytes=400_000_000)\n"
        + "print(json.dumps(ran(session, (8, 512), (2, 128), (8, 512), (2, 128))))"
    )

    assert seen == ["out of memory", "ran"] * 2


def test_a_batch_fits_again_when_others_have_left_the_card(card: Card) -> None:
    seen = card.run(
        OPEN
        + """
session = general()
seen = [ran(session, (1, 128))]
os.environ["SI_OOM"] = "400"
seen += [ran(session, (8, 512)), ran(session, (1, 128))]
os.environ["SI_OOM"] = "0"
before = counts()
seen += [ran(session, (8, 512))]
print(json.dumps([seen, difference(before)]))
"""
    )

    outcomes, last = seen
    assert outcomes == [["ran"], ["out of memory"], ["ran"], ["ran"]]
    assert (last["plans"], last["tensor_core_runs"]) == (34, 34), "no half-made plan of the run that failed is left"


def test_small_batches_build_nothing_anew_where_there_is_no_room_for_the_results_of_large_ones(card: Card) -> None:
    seen, plans, later = card.run(
        OPEN
        + """
session = general()
ran(session, (1, 128), (1, 128))
in_flight = cuda_device_for(device()).blocks.take(8 * 2048 * 2048 * 3)
os.environ["SI_OOM"] = str(counts()["arena_bytes"] / 1e6 + 10)
before = counts()
seen = ran(session, *[(1, 128)] * 4)
plans = difference(before)["plans"]
del in_flight
os.environ["SI_OOM"] = "0"
print(json.dumps([seen, plans, ran(session, (8, 512), (8, 512), (1, 128))]))
"""
    )

    assert (seen, plans) == (["ran"] * 4, 0)
    assert later == ["ran"] * 3


@pytest.mark.at_length
def test_a_session_whose_run_failed_is_closed_before_another_runs_also_while_somebody_holds_the_error(
    card: Card,
) -> None:
    held = card.run(
        OPEN
        + """
session = general(memory_limit_bytes=400_000_000)
ran(session, (1, 128))
errors = []
try:
    session.run(np.zeros((8, 512, 512, 3), np.uint8))
except DeviceOutOfMemory as error:
    errors.append(error)
with_error = counts()
errors.clear()
print(json.dumps(difference(with_error)["arena_bytes"]))
"""
    )

    assert held == 0
