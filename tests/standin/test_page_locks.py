"""Host memory that the driver does not want to lock, with the real CUDA provider around it."""

import pytest

from tests.standin.card import Card
from tests.support.lengths import at_length

OPEN = """
import gc, json
import numpy as np
from loguru import logger
from penstock.core.device import Device
from penstock.models.onnxruntime import memory
from penstock.models.onnxruntime.memory import host_blocks
from penstock.models.onnxruntime.precision import open_session
from penstock.models.onnxruntime.session import Session, half, manifest
from tests.standin.batches import blank
from tests.standin.counts import counts, difference

lines = []
logger.remove()
logger.add(lambda line: lines.append(line.record["message"]))
HALF = half(manifest()["superres-x4", "general"])

def card(**more):
    return Device(name="cuda:0", kind="cuda", threads=1, sides=(128, 192), batches=(1, 2), **more)

def runs(session, shapes):
    ended = []
    for batch, side in shapes:
        try:
            ended.append(list(session.run(blank(HALF, batch, side, side))[0].shape))
        except Exception as error:
            ended.append(type(error).__name__)
    return ended
"""

SHAPES = [(1, 128), (1, 128), (2, 128), (2, 128), (1, 192), (2, 192), (1, 128), (2, 192)]


@pytest.mark.parametrize("refused", [*at_length(1, 4), 2])
def test_after_a_refused_lock_every_run_ends_well_and_nothing_stays_locked_that_is_unmapped(
    card: Card, refused: int
) -> None:
    program = (
        OPEN
        + f"""
session = Session(HALF, card())
ended = runs(session, {SHAPES})
memory.KEPT_BYTES = 0
gc.collect()
host_blocks(card()).take((100_000,), np.uint8)  # gives back what is free
gc.collect()
print(json.dumps([ended, lines, counts()]))
"""
    )
    ended, lines, counts = card.run(program, reg=refused)

    assert [shape[:2] for shape in ended] == [[n, 4 * side] for n, side in SHAPES]
    assert [line for line in lines if "refuses" in line] == lines[:1] == lines
    assert counts["refused_locks"] >= 1
    assert counts["unmapped_locks"] == counts["lock_faults"] == 0


def test_fp16_is_used_although_the_first_lock_was_refused(card: Card) -> None:
    program = (
        OPEN
        + """
file = open_session(manifest("cuda")["superres-x4", "general"], card(precision="auto")).file.file
print(json.dumps([file, lines]))
"""
    )
    file, lines = card.run(program, answers=True, reg=1)

    assert file == "superres-x4.general.fp16.onnx"
    assert not [line for line in lines if "memory" in line and "pageable" not in line]


def test_no_more_than_the_bound_is_locked_and_the_log_says_so_once(card: Card) -> None:
    program = (
        OPEN
        + f"""
device = card(pinned_bytes=4_000_000)
session = Session(HALF, device)
held = [runs(session, {SHAPES}), [host_blocks(device).take((1_000_000,), np.uint8) for _ in range(8)]]
print(json.dumps([held[0], lines, counts(), host_blocks(device).locked_bytes]))
"""
    )
    ended, lines, counts, locked = card.run(program)

    assert all(isinstance(shape, list) for shape in ended)
    assert 0 < counts["locked_peak"] <= 4_000_000
    assert locked == counts["locked_bytes"]
    assert len([line for line in lines if "worker.pinned_bytes" in line]) == 1
