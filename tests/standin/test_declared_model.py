"""A model of a `model.toml` on a card: its nodes, its batches, outputs whose size varies, and its memory."""

import pytest

from tests.standin.card import Card, ProgramFailed

OPEN = """
import json
import tempfile
from pathlib import Path

import numpy as np

from penstock.core.device import Device
from penstock.errors import DeviceOutOfMemory
from penstock.models.declared.check import answered
from tests.standin.counts import counts, difference
from tests.support.declared import folder_of, loaded, model, node, png

device = Device(name="cuda:0", kind="cuda", threads=1, sides=(64,), batches=(1, 2, 4), precision="auto")

def place():
    return Path(tempfile.mkdtemp())

kernel = np.ones((8, 3, 3, 3), np.float32)
steps = [node("Conv", "x k", "c"), node("GlobalAveragePool", "c", "p")]
scores = 'kind = "image-to-scores"\\n[input]\\nsize = [16, 16]\\n'

def network(*more, batch="n", **constants):
    ports = [("x", "float32", [batch, 3, 16, 16])], [("y", "float32", [batch, 8])]
    return model([*steps, *more], *ports, k=kernel, **constants)

plain = network(node("Flatten", "p", "y"))
image = png(np.zeros((20, 20, 3), np.uint8))
"""


def test_a_declared_network_runs_on_the_card_in_batches_that_its_graph_takes(card: Card) -> None:
    ran = card.run(
        OPEN
        + """
files = (plain, network(node("Flatten", "p", "y"), batch=2))
runners = [loaded(folder_of(place(), scores, file), device) for file in files]
work = runners[0].prepare(image, runners[0].params())
before = counts()
outputs = runners[0].infer(np.stack([work.tile(0)] * 4), work)
free = difference(before)
fixed = runners[1].infer(np.stack([work.tile(0)] * 3), work)
print(json.dumps({
    "provider": runners[0]._network._session.provider,
    "most": [runner.max_batch for runner in runners],
    "outputs": [len(outputs), len(fixed), list(outputs[0][0].shape)],
    "warm": [list(work.shape) for work in runners[0].warmup()],
}))
"""
    )

    assert ran["provider"] == "CUDAExecutionProvider"
    assert ran["most"] == [4, 2]
    assert ran["outputs"] == [4, 3, [1, 8]]
    assert ran["warm"] == [[3, 16, 16]]


def test_nodes_that_compute_shapes_may_run_on_the_cpu(card: Card) -> None:
    answer = card.run(
        OPEN
        + """
shaped = network(
    node("Shape", "p", "s"), node("Gather", "s zero", "n"), node("Concat", "n rest", "to", axis=0),
    node("Reshape", "p to", "y"), zero=np.array([0]), rest=np.array([8]),
)
print(json.dumps(answered(loaded(folder_of(place(), scores, shaped), device), image).data))
"""
    )

    assert len(answer["scores"]) == 8


HEAVY = """
integers = model(
    [node("Cast", "x", "i", to=2), node("ConvInteger", "i k", "c"), node("Cast", "c", "f", to=1),
     node("GlobalAveragePool", "f", "p"), node("Flatten", "p", "y")],
    [("x", "float32", ["n", 3, 16, 16])], [("y", "float32", ["n", 8])], k=kernel.astype(np.uint8),
)
print(json.dumps(answered(loaded(folder_of(place(), scores + {more!r}, integers), device), image).data))
"""


def test_a_network_whose_heavy_nodes_would_run_on_the_cpu_is_refused_in_one_line(card: Card) -> None:
    with pytest.raises(ProgramFailed, match="it has no code for ConvInteger of this file, which would run on the CPU"):
        card.run(OPEN + HEAVY.format(more=""))


def test_an_operator_may_let_them_run_there(card: Card) -> None:
    answer = card.run(OPEN + HEAVY.format(more="[run]\ncpu_nodes = true\n"))

    assert len(answer["scores"]) == 8


def test_outputs_may_have_another_size_in_each_run(card: Card) -> None:
    sizes = card.run(
        OPEN
        + """
cut = model([node("Slice", "x zero n", "c"), node("Neg", "c", "y")],
            [("x", "float32", [8]), ("n", "int64", [1])], [("y", "float32", ["k"])], zero=np.array([0]))
toml = '''
kind = "tensors"
tensors = [{name = "x", shape = [8]}, {name = "n", dtype = "int64", shape = [1]}]
'''
runner = loaded(folder_of(place(), toml, cut), device)
found = [answered(runner, {"x": [0.0] * 8, "n": [n]}).data["outputs"]["y"]["shape"] for n in (3, 3, 5, 1, 8)]
print(json.dumps(found))
"""
    )

    assert sizes == [[3], [3], [5], [1], [8]]


@pytest.mark.at_length
def test_a_model_that_finds_no_room_is_out_of_memory_and_one_that_is_unloaded_makes_room(card: Card) -> None:
    ran = card.run(
        OPEN
        + """
large = 'kind = "image-to-embedding"\\n[input]\\nsize = [16, 16]\\n'
weights = np.ones((8, 8_000_000), np.float32)  # 256 MB
def file():
    return model([*steps, node("Flatten", "p", "f"), node("MatMul", "f w", "m"), node("ReduceMax", "m", "y", axes=[1])],
                 [("x", "float32", ["n", 3, 16, 16])], [("y", "float32", ["n", 1])], k=kernel, w=weights)
folders = [folder_of(place(), large, file()) for _ in range(2)]
device = Device(name="cuda:0", kind="cuda", threads=1, sides=(64,), batches=(1,))
first = loaded(folders[0], device)
ends = []
try:
    loaded(folders[1], device)
    ends.append("loaded")
except DeviceOutOfMemory:
    ends.append("out of memory")
first.unload()
loaded(folders[1], device)
ends.append("loaded")
print(json.dumps(ends))
""",
        oom=400,
    )

    assert ran == ["out of memory", "loaded"]
