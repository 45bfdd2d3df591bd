"""Half arithmetic, emulated: which network bears it, and by how much it is off.

The CPU runs an fp16 file in fp32, so that it shows nothing. Here the fp32 graph is run with the result of every node
rounded to fp16 and back, sums being kept in fp32 as a GPU does: by plain fp32 nodes that no optimiser is let near.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from tests.support.networks import network, with_weights

Array = NDArray[np.float32]
Run = Callable[[Array], list[Array]]

CLEAN = "superres-x4.clean.onnx"
SIDE_PX = 64


def rounded(model: onnx.ModelProto) -> bytes:
    """The graph with a way through fp16 after every node."""
    nodes = []
    for node in model.graph.node:
        name = node.output[0]
        node.output[0] = f"{name}.exact"
        nodes += [
            node,
            helper.make_node("Cast", [f"{name}.exact"], [f"{name}.half"], to=TensorProto.FLOAT16),
            helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT),
        ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    data: bytes = model.SerializeToString()
    return data


def emulated(path: Path) -> Run:
    """A shipped fp32 file in half arithmetic."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    model = rounded(network(with_weights(path)))
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    (taken,) = session.get_inputs()
    return lambda image: session.run(None, {taken.name: image.astype(np.float16).astype(np.float32)})


@pytest.fixture(scope="session")
def images(photos: Mapping[str, Image.Image]) -> dict[str, Array]:
    """Crops of photos, and what is hard: one-pixel stripes, dots, and noise in black and white."""
    crops = {name: photo.crop((100, 60, 100 + SIDE_PX, 60 + SIDE_PX)) for name, photo in photos.items()}
    random = np.random.default_rng(7).random((SIDE_PX, SIDE_PX))
    planes = {
        "stripes": np.indices((SIDE_PX, SIDE_PX))[1] % 2,
        "checks": np.indices((SIDE_PX, SIDE_PX)).sum(0) // 8 % 2,
        "dots": random > 0.85,
        "noise": random > 0.5,
    }
    return {n: np.asarray(c, np.float32).transpose(2, 0, 1)[None] / np.float32(255) for n, c in crops.items()} | {
        n: np.broadcast_to(plane.astype(np.float32), (1, 3, SIDE_PX, SIDE_PX)).copy() for n, plane in planes.items()
    }


@pytest.mark.at_length
def test_in_half_arithmetic_no_value_is_off_by_more_than_the_tolerance(
    halved: dict[str, Any], models: Path, shipped: Callable[[str], Run], images: dict[str, Array]
) -> None:
    exact = halved["file"].replace(".fp16", "")
    run = emulated(models / exact)

    off = {name: float(np.abs(run(image)[0] - shipped(exact)(image)[0]).max()) for name, image in images.items()}

    assert 1e-4 < max(off.values()) <= halved["tolerance"], off


@pytest.mark.at_length
def test_clean_cannot_bear_half_arithmetic_and_has_no_such_file(
    models: Path, shipped: Callable[[str], Run], images: dict[str, Array]
) -> None:
    run = emulated(models / CLEAN)

    off = {name: float(np.abs(run(image)[0] - shipped(CLEAN)(image)[0]).max()) for name, image in images.items()}

    assert off["stripes"] > 0.5
    assert off["dots"] > 0.5
    assert not (models / CLEAN.replace(".onnx", ".fp16.onnx")).exists()


@pytest.mark.at_length
def test_a_file_in_fp16_is_the_network_of_its_fp32_file(
    halved: dict[str, Any], shipped: Callable[[str], Run], images: dict[str, Array]
) -> None:
    """On the CPU, which computes it in fp32: only the output was rounded, the weights are fp16 as they are. In `best`
    the biases are rounded too."""
    most = 2**-9 if "best" in halved["file"] else 2**-11  # the last place of fp16 below 1
    for name, image in images.items():
        ours, theirs = (shipped(file)(image)[0] for file in (halved["file"], halved["file"].replace(".fp16", "")))
        assert ours.dtype == np.float32
        assert np.abs(ours - theirs).max() <= most, name
