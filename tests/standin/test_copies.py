"""Results come down beside the next run, into page-locked memory, and nobody writes where they are."""

import pytest

from tests.standin.card import Card

OPEN = """
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
import numpy as np
from penstock.core.device import Device
from penstock.models.base import DeviceBroken
from penstock.models.device_time import device_time
from penstock.models.onnxruntime.cuda_device import cuda_device_for
from penstock.models.onnxruntime.session import Session, half, manifest
from tests.standin.counts import counts, difference

device = Device(name="cuda:0", kind="cuda", threads=1, sides=(128,), batches=(1, 2))
session = Session(half(manifest("cuda")["superres-x4", "general"]), device)
card = cuda_device_for(device)

def zeros(n):
    return np.zeros((n, 128, 128, 3), np.uint8)

def slow_copies(microseconds):
    os.environ["SI_COPY_US"] = str(microseconds)

for n in device.batches * 2:
    session.run(zeros(n))
"""


def test_a_result_is_copied_while_the_next_batch_computes(card: Card) -> None:
    seen = card.run(
        OPEN
        + """
tiny = np.zeros((1, 16, 16, 3), np.uint8)  # too small to be copied slowly
session.run(tiny)
copying = threading.Event()
plain = card.to_host

def watched(*given):
    copying.set()
    return plain(*given)

card.to_host = watched
slow_copies(500_000)
before = counts()
with ThreadPoolExecutor(1) as other:
    first = other.submit(session.run, zeros(1))
    copying.wait()
    beside = 0
    while not first.done():
        session.run(tiny)
        beside += 1
print(json.dumps([beside, difference(before)]))
"""
    )

    beside, added = seen
    assert beside >= 2
    assert (added["overlapping_copies"], added["plans"]) == (1, 0)


def test_results_that_are_copied_at_a_time_lie_apart_on_the_card(card: Card) -> None:
    overlaps, together = card.run(
        OPEN
        + """
lock, copied, overlaps, together = threading.Lock(), {}, 0, 0
plain = card.to_host

def watched(*given):
    results = given[0]
    global overlaps, together
    ranges = [(t.address, t.address + int(np.prod(t.shape)) * t.dtype.itemsize) for t in results.tensors]
    with lock:
        others = [one for many in copied.values() for one in many]
        overlaps += sum(a < d and c < b for a, b in ranges for c, d in others)
        overlaps += ranges[0][1] > ranges[1][0]  # its own: the pixels, then the sums
        together += bool(others)
        copied[threading.get_ident()] = ranges
    result = plain(*given)
    with lock:
        del copied[threading.get_ident()]
    return result

card.to_host = watched
slow_copies(20_000)
with ThreadPoolExecutor(2) as threads:
    list(threads.map(session.run, [zeros(2)] * 12))
print(json.dumps([overlaps, together]))
"""
    )

    assert overlaps == 0
    assert together > 0


def test_results_go_to_page_locked_memory_that_is_used_again(card: Card) -> None:
    seen = card.run(
        OPEN
        + """
before = counts()
for _ in range(5):
    session.run(zeros(2))
print(json.dumps(difference(before)))
"""
    )

    assert seen["locked_bytes_down"] == 5 * 16 * 2 * 3 * 128 * 128
    assert seen["bytes_down"] - seen["locked_bytes_down"] == 5 * 2 * 4, "a sum for each tile needs no block"
    assert (seen["locks"], seen["unlocks"], seen["mallocs"]) == (0, 0, 0)


@pytest.mark.at_length
def test_tiles_in_page_locked_memory_are_copied_from_there(card: Card) -> None:
    seen = card.run(
        OPEN
        + """
from penstock.models.onnxruntime.memory import host_blocks

tiles = host_blocks(device).take((2, 128, 128, 3), np.uint8)
before = counts()
session.run(tiles)
print(json.dumps(difference(before)))
"""
    )

    assert seen["locked_bytes_up"] == seen["bytes_up"] == 2 * 3 * 128 * 128


@pytest.mark.at_length
def test_tiles_that_do_not_lie_in_one_piece_are_no_trouble(card: Card) -> None:
    shape = card.run(
        OPEN
        + """
given = np.zeros((4, 128, 128, 3), np.uint8)[::2, ::-1]
assert not given.flags.c_contiguous
print(json.dumps(session.run(given)[0].shape))
"""
    )

    assert shape == [2, 512, 512, 3]


def test_a_result_is_not_touched_by_later_runs_while_somebody_holds_a_part_of_it(card: Card) -> None:
    same = card.run(
        OPEN
        + """
held = session.run(zeros(2))[0][1]
held[:] = 7
for _ in range(4):
    session.run(zeros(2))
print(json.dumps(bool((held == 7).all())))
"""
    )

    assert same


def test_the_time_of_a_run_is_told_apart_from_its_copies_and_its_wait_for_another(card: Card) -> None:
    noted = card.run(
        OPEN
        + """
def run():
    started = time.perf_counter()
    with device_time() as noted:
        session.run(zeros(1))
    return [noted.compute_s, noted.copy_s, time.perf_counter() - started]

slow_copies(200_000)
with ThreadPoolExecutor(1) as thread:
    with card.computing():
        waiting = thread.submit(run)
        while not session._running:
            pass
        time.sleep(0.5)
    print(json.dumps(waiting.result()))
"""
    )

    compute_s, copy_s, took_s = noted
    assert copy_s >= 0.2
    assert compute_s > 0
    assert compute_s + copy_s <= took_s - 0.5


@pytest.mark.parametrize(
    ("status", "stops"),
    [(700, "nobody"), (700, "me"), pytest.param(999, "nobody", marks=pytest.mark.at_length)],
)
def test_a_card_that_breaks_during_a_copy_is_broken_also_where_the_run_was_stopped(
    card: Card, status: int, stops: str
) -> None:
    error = card.run(
        OPEN
        + f"""
plain = card.to_host

def breaking(*given):
    os.environ["SI_STICKY"] = "{status}"
    with ThreadPoolExecutor(1) as other:
        try:
            other.submit(session.run, zeros(2)).result()  # the run beside the copy breaks the card
        except DeviceBroken:
            pass
    session.interrupt("{stops}")
    return plain(*given)

card.to_host = breaking
try:
    session.run(zeros(1), owner="me")
except DeviceBroken as broken:
    print(json.dumps(str(broken)))
"""
    )

    assert f"CUDA failure {status}" in error
