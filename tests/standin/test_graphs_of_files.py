"""What the graphs of the shipped files cost a card: bytes that are copied, passes over memory, and its memory."""

from tests.standin.card import Card

OPEN = """
import json
import numpy as np
from msgspec.structs import replace
from penstock.core.device import GPU_SHAPES, Device
from penstock.models.onnxruntime.session import Session, half, manifest
from tests.standin.counts import counts, difference

device = Device(name="cuda:0", kind="cuda", threads=1, rectangles=GPU_SHAPES, batches=(1, 2, 4, 8))
GENERAL = manifest("cuda")["superres-x4", "general"]
CLEAN = manifest("cuda")["superres-x4", "clean"]

def ran(session, *shape):
    session.run(np.zeros(shape, np.uint8))  # the first run of a shape makes its plans
    before = counts()
    session.run(np.zeros(shape, np.uint8))
    return difference(before)
"""


def test_results_are_copied_as_bytes_and_so_are_tiles(card: Card) -> None:
    files = "(GENERAL, half(GENERAL), CLEAN)"
    copied = card.run(OPEN + f"print(json.dumps([ran(Session(file, device), 2, 256, 256, 3) for file in {files}]))")

    values = 2 * 256 * 256 * 3
    for one in copied:
        assert one["bytes_up"] <= 0.26 * 4 * values, "of tiles in fp32"
        assert one["bytes_down"] <= 0.26 * 4 * 16 * values, "of results in fp32"


def test_in_fp32_a_card_runs_fewer_nodes_than_the_graph_for_a_cpu_has(card: Card) -> None:
    of_cpu = "replace(manifest('cpu')['superres-x4', 'general'], device='any')"
    files = f"(GENERAL, half(GENERAL), {of_cpu})"
    of_card, of_half, of_cpu = card.run(
        OPEN + f"print(json.dumps([ran(Session(file, device), 1, 128, 128, 3) for file in {files}]))"
    )

    assert of_card["launches"] < 0.75 * of_cpu["launches"]
    assert of_card["launches"] <= of_half["launches"] + 5
    assert (of_card["tensor_core_runs"], of_card["other_runs"]) == (0, 34)


def test_the_largest_batch_of_any_shape_takes_no_more_of_the_card_than_eight_tiles_of_512(card: Card) -> None:
    largest = "max((device.batches_of(s)[-1] * s[0] * s[1], s) for s in GPU_SHAPES)[1]"
    run = f"(height, width) = {largest}; size = device.batches_of((height, width, 3))[-1]\n"
    ladder, squares = (
        card.run(OPEN + f"{run}ran(Session(CLEAN, device), {shape}); print(json.dumps(counts()['arena_peak']))")
        for shape in ("size, height, width, 3", "8, 512, 512, 3")
    )

    assert 0 < ladder <= squares <= 4.5 * 10**9
