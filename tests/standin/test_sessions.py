"""One session for each shape of batch: what runs, what is built, and how many there are."""

import pytest

from tests.standin.card import Card

OPEN = """
import json
import threading
import numpy as np
from msgspec.structs import replace
from penstock.core.device import Device
from penstock.models.base import Interrupted
from penstock.models.onnxruntime import sessions
from penstock.models.onnxruntime.session import Session, half, manifest
from tests.standin.counts import counts, difference

device = Device(name="cuda:0", kind="cuda", threads=1, sides=(64, 128), batches=(1, 2))
general, clean = (manifest("cuda")["superres-x4", variant] for variant in ("general", "clean"))
nima = manifest("cuda")["image-scoring-v1", "nima"]

def zeros(n, side):
    return np.zeros((n, side, side, 3), np.uint8)
"""


def test_batches_of_alternating_shapes_build_no_plan(card: Card) -> None:
    plans = card.run(
        OPEN
        + """
opened = [Session(half(general), device), Session(clean, device)]
shapes = [(n, side) for n in device.batches for side in device.sides]
plans = []
for _ in range(10):
    before = counts()
    for shape in shapes:
        for session in opened:
            session.run(zeros(*shape))
    plans.append(difference(before)["plans"])
print(json.dumps(plans))
"""
    )

    assert plans == [4 * (34 + 22)] + [0] * 9


def test_shapes_that_no_longer_come_lose_their_session_and_its_memory(card: Card) -> None:
    seen = card.run(
        OPEN
        + """
sessions.KEPT = 4
session = Session(clean, device)
held = []
for side in reversed(range(16, 36)):
    session.run(zeros(1, side))
    held.append(counts()["arena_bytes"])
before = counts()
session.run(zeros(1, 16))
again = difference(before)["plans"]
session.run(zeros(1, 35))
print(json.dumps({"held": held, "again": again, "anew": difference(before)["plans"]}))
"""
    )

    weights = seen["held"][1] - seen["held"][0]
    assert weights > 1_000_000
    assert max(seen["held"]) < seen["held"][3] + weights
    assert (seen["again"], seen["anew"]) == (0, 22)


@pytest.mark.at_length
def test_a_session_costs_little_more_than_the_weights_of_its_file(card: Card) -> None:
    held = card.run(
        OPEN
        + """
session = Session(half(general), device)
session.run(zeros(2, 64))
before = counts()
session.run(zeros(1, 64))
print(json.dumps(difference(before)["arena_bytes"]))
"""
    )

    assert held < 3_000_000, "the file has 2.4 MB"


def test_all_sessions_run_in_one_stream_and_each_thread_copies_in_one_of_its_own(card: Card) -> None:
    streams = card.run(
        OPEN
        + """
def run():
    for session in opened:
        for n in device.batches:
            session.run(zeros(n, 224))

opened = [Session(file, device) for file in (half(general), clean, nima)]
before = counts()
run()
thread = threading.Thread(target=run)
thread.start()
thread.join()
print(json.dumps([before["streams"], counts()["streams"]]))
"""
    )

    assert streams == [1, 3]


@pytest.mark.at_length
def test_a_model_of_several_outputs_gives_all_of_them_in_their_types(card: Card) -> None:
    outputs = card.run(
        OPEN
        + """
score, distribution = Session(nima, device).run(zeros(2, 224))
print(json.dumps([[a.shape, str(a.dtype)] for a in (score, distribution)]))
"""
    )

    assert outputs == [[[2], "float32"], [[2, 10], "float32"]]


@pytest.mark.at_length
def test_an_input_of_a_wrong_shape_is_an_error_about_the_input_and_the_next_runs(card: Card) -> None:
    error, is_held, then = card.run(
        OPEN
        + """
import gc
import weakref

gc.disable()
session = Session(nima, device)
tiles = zeros(1, 96)
held = weakref.ref(tiles)
try:
    session.run(tiles)
    error = None
except Exception as raised:
    error = str(raised)
del tiles
print(json.dumps([error, held() is not None, session.run(zeros(1, 224))[0].shape]))
"""
    )

    assert "nvalid dimensions" in error
    assert not is_held, "tiles lie in page-locked memory"
    assert then == [1]


def test_a_run_that_is_stopped_while_another_computes_computes_nothing(card: Card) -> None:
    seen = card.run(
        OPEN
        + """
from penstock.models.onnxruntime.cuda_device import cuda_device_for

session = Session(clean, device)
session.run(zeros(1, 64))
ends = []

def run():
    try:
        session.run(zeros(1, 64), owner="me")
    except Interrupted as end:
        ends.append(type(end).__name__)

with cuda_device_for(device).computing():
    before = counts()
    thread = threading.Thread(target=run)
    thread.start()
    while not session._running:
        pass
    session.interrupt("somebody else")
    session.interrupt("me")
thread.join()
stopped = difference(before)["launches"]
print(json.dumps([ends, stopped, session.run(zeros(1, 64))[0].shape]))
"""
    )

    assert seen == [["Interrupted"], 0, [1, 256, 256, 3]]


def test_small_batches_become_graphs_and_large_ones_do_not(card: Card) -> None:
    seen = card.run(
        OPEN
        + """
session = Session(half(general), replace(device, cuda_graphs=True))
seen = []
for n, side in [(1, 64), (1, 64), (2, 64), (1, 1024), (1, 64)]:
    before = counts()
    result = session.run(zeros(n, side))[0]
    seen.append([result.shape == (n, 4 * side, 4 * side, 3), difference(before)["graph_launches"]])
print(json.dumps({"seen": seen, "captures": counts()["graph_captures"]}))
"""
    )

    assert seen["captures"] == 1, "the third run of a shape replays what the second has captured"
    assert seen["seen"] == [[True, 0], [True, 1], [True, 0], [True, 0], [True, 1]]


@pytest.mark.at_length
def test_a_batch_whose_graph_finds_no_room_on_the_card_runs_without_one(card: Card) -> None:
    seen = card.run(
        OPEN
        + """
import os

session = Session(half(general), replace(device, cuda_graphs=True))
session.run(zeros(1, 128))
os.environ["SI_OOM"] = str(counts()["arena_bytes"] / 1e6 + 1)  # the results have room, and no session
seen = [session.run(zeros(1, 64))[0].shape[1] for _ in range(3)]
os.environ["SI_OOM"] = "0"
before = counts()
seen += [session.run(zeros(1, 64))[0].shape[1] for _ in range(3)]
print(json.dumps([seen, difference(before)["graph_launches"] > 0]))
"""
    )

    assert seen == [[256] * 6, True]
