"""Full memory and CUDA graphs, in sessions of Penstock."""

from tests.standin.card import Card

OPEN = """
import json
from penstock.core.device import Device
from penstock.errors import DeviceOutOfMemory
from penstock.models.onnxruntime.session import Session, half, manifest
from tests.standin.batches import blank
from tests.standin.counts import counts, difference

HALF = half(manifest()["superres-x4", "general"])

def opened(**more):
    sizes = {"sides": (128, 512), "batches": (1, 2, 8)}
    return Session(HALF, Device(name="cuda:0", kind="cuda", threads=1, **sizes, **more))

def run(session, batch, side):
    before = counts()
    try:
        session.run(blank(HALF, batch, side, side))
    except DeviceOutOfMemory:
        return "out of memory"
    return difference(before)
"""


def test_what_does_not_fit_the_card_is_out_of_memory_and_the_next_batch_runs(card: Card) -> None:
    both = "session = opened(); print(json.dumps([run(session, *shape) for shape in ((1, 128), (8, 512), (1, 128))]))"
    _, large, small = card.run(OPEN + both, oom=600)

    assert large == "out of memory"
    assert small["tensor_core_runs"] == 34


def test_a_cuda_graph_is_captured_once_for_each_shape_and_then_replayed(card: Card) -> None:
    shapes = [(1, 128)] * 4 + [(2, 128)] * 4 + [(1, 128), (2, 128)] * 3
    runs = f"session = opened(cuda_graphs=True); print(json.dumps([run(session, *shape) for shape in {shapes}]))"
    ran = card.run(OPEN + runs)

    assert sum(one["graph_captures"] for one in ran) == 2
    assert [one["graph_launches"] for one in ran[-6:]] == [1] * 6
    assert [one["plans"] for one in ran[-6:]] == [0] * 6
