"""The golden answers: right for every shipped file and every shape, and wrong for what faulty devices compute."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from msgspec.structs import replace
from numpy.typing import NDArray

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.models import load_runners
from penstock.models.base import DeviceBroken, registry
from penstock.models.onnxruntime import golden
from penstock.models.onnxruntime.golden import GoldenWork, answers, batch_of, check, compared, inputs
from penstock.models.onnxruntime.precision import better
from penstock.models.onnxruntime.probe import probe_device
from penstock.models.onnxruntime.session import ModelFile, Session, half, manifest
from penstock.settings import LimitSettings, ModelSettings
from penstock.worker.devices import cpu
from tools.convert.golden import answers_of, in_lines

GENERAL, CLEAN = manifest()["superres-x4", "general"], manifest()["superres-x4", "clean"]
BEST = manifest()["superres-x4", "best"]
NIMA = manifest()["image-scoring-v1", "nima"]
PLAIN = replace(cpu(2), streams=1)
LIKE_A_GPU = Device(name="cuda:0", kind="cuda", threads=1, sides=(128,), batches=(1,))
"""Only what a GPU is asked is taken from it: the sessions run on the CPU."""

SMALL, SCORED = (64, 64), (224, 224)

Outputs = list[NDArray[np.generic]]

right = Session.run
"""What runs a batch, also while a test replaces it by a faulty one."""


@cache
def session_of(file: ModelFile) -> Session:
    return Session(file, PLAIN)


computed: dict[tuple[str, bytes], Outputs] = {}


class Faulty:
    """A device that computes right, and gives something else."""

    def __init__(self, file: ModelFile, fault: Callable[[Outputs], Outputs]) -> None:
        self.file = file
        self._fault = fault

    def run(self, tiles: NDArray[np.generic]) -> Outputs:
        key = (self.file.file, tiles.tobytes())
        if key not in computed:
            computed[key] = right(session_of(self.file), tiles)
        return self._fault(computed[key])


def exchanged(outputs: Outputs) -> Outputs:
    image, *rest = outputs
    return [np.flip(image, axis=3), *rest]


class Stale:
    """Gives the results of the run before, as memory that is still registered for other pages does."""

    def __init__(self) -> None:
        self.before: Outputs | None = None

    def __call__(self, outputs: Outputs) -> Outputs:
        before, self.before = self.before or outputs, outputs
        return before


FAULTS: dict[str, Callable[[Outputs], Outputs]] = {
    "zeros": lambda outputs: [np.zeros_like(output) for output in outputs],
    "white": lambda outputs: [np.full_like(output, 255 if output.dtype == np.uint8 else 1) for output in outputs],
    "not a number": lambda outputs: [*outputs[:-1], outputs[-1] * np.float32(np.nan)],
    "exchanged channels": exchanged,
    "one row too low": lambda outputs: [np.roll(outputs[0], 4, axis=1), *outputs[1:]],
    "stale": Stale(),
}


@pytest.mark.parametrize(
    "file",
    [
        *(GENERAL, CLEAN, NIMA, manifest("cuda")["superres-x4", "general"], half(GENERAL)),
        *(pytest.param(file, marks=pytest.mark.at_length) for file in (BEST, half(BEST))),
    ],
    ids=lambda file: file.file,
)
def test_every_file_computes_the_answers(file: ModelFile) -> None:
    check(session_of(file), LIKE_A_GPU, SCORED if file is NIMA else SMALL)


@pytest.mark.parametrize("shape", [(64, 96), (96, 64)], ids=str)
def test_the_answers_are_the_same_in_every_shape(shape: tuple[int, int]) -> None:
    check(session_of(CLEAN), LIKE_A_GPU, shape)


@pytest.mark.parametrize("file", [GENERAL, CLEAN], ids=lambda file: file.variant)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_device_that_gives_wrong_pixels_is_refused_with_file_and_values(file: ModelFile, fault: str) -> None:
    with pytest.raises(ConfigurationError, match="computes wrong values") as refused:
        check(Faulty(file, FAULTS[fault]), LIKE_A_GPU, SMALL)

    assert str(refused.value).startswith(f"{file.file} on cuda:0 with ")
    assert "expected" in str(refused.value)


@pytest.mark.parametrize("fault", ["zeros", "not a number", "stale"])
def test_a_device_that_gives_wrong_scores_is_refused(fault: str) -> None:
    with pytest.raises(ConfigurationError, match="computes wrong values"):
        check(Faulty(NIMA, FAULTS[fault]), LIKE_A_GPU, SCORED)


def test_the_input_in_another_order_of_channels_gives_another_score() -> None:
    class Blue(Faulty):
        def run(self, tiles: NDArray[np.generic]) -> Outputs:
            return super().run(np.ascontiguousarray(np.flip(tiles, axis=3)))

    with pytest.raises(ConfigurationError, match="computes wrong values"):
        check(Blue(NIMA, lambda outputs: outputs), PLAIN, SCORED)


def test_span_in_tf32_is_refused(models: Path) -> None:
    class Rounded(Faulty):
        def run(self, tiles: NDArray[np.generic]) -> Outputs:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = 2
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
            session = onnxruntime.InferenceSession(in_tf32(models / CLEAN.file), options, ["CPUExecutionProvider"])
            outputs: Outputs = session.run(None, {"image": tiles})
            return outputs

    with pytest.raises(ConfigurationError, match="with stripes: the device computes wrong values"):
        check(Rounded(CLEAN, lambda outputs: outputs), LIKE_A_GPU, SMALL)


def in_tf32(path: Path) -> bytes:
    """The graph with the inputs of its convolutions rounded to 11 bits, which those of fp16 are too."""
    model = onnx.load(path)
    nodes = []
    for number, node in enumerate(model.graph.node):
        for place in (0, 1) if node.op_type == "Conv" else ():
            name = f"{number}.{place}"
            half_, single = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
            nodes.append(onnx.helper.make_node("Cast", [node.input[place]], [f"{name}.fp16"], to=half_))
            nodes.append(onnx.helper.make_node("Cast", [f"{name}.fp16"], [name], to=single))
            node.input[place] = name
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    data: bytes = model.SerializeToString()
    return data


def test_the_stored_answers_are_what_a_cpu_computes() -> None:
    """Another CPU may round otherwise, so that the bytes of the file need not be the same."""
    for file in (CLEAN, NIMA):
        for pattern, made in answers_of(file).items():
            stored = answers()[file.network][pattern]
            assert stored.tolerance == made["tolerance"]
            assert np.abs(np.subtract(stored.values, made["values"])).max() <= stored.tolerance / 2


def test_the_stored_answers_are_no_blank_image() -> None:
    for patterns in answers().values():
        for answer in patterns.values():
            assert np.ptp(answer.values) > 100 * answer.tolerance or answer.tolerance == 64
            assert len(set(answer.values)) > 10 or answer.tolerance == 64


def test_the_file_of_answers_has_a_line_for_each(models: Path) -> None:
    text = (models / golden.FILE).read_text()

    assert in_lines(json.loads(text)) == text
    assert text.count("tolerance") == len(manifest()) * len(golden.PATTERNS)


def test_a_gpu_runs_each_pattern_and_the_first_one_again_into_locked_memory() -> None:
    assert [name for name, _ in inputs(LIKE_A_GPU, SMALL)] == ["scene", "stripes", "scene"]
    assert [name for name, _ in inputs(PLAIN, SMALL)] == ["scene"]


def test_an_fp16_file_that_computes_wrong_values_leaves_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = half(GENERAL)
    assert twin is not None
    exact = session_of(GENERAL)
    blank = Faulty(GENERAL, FAULTS["zeros"])

    monkeypatch.setattr(
        Session, "run", lambda self, tiles: blank.run(tiles) if self.file is twin else right(self, tiles)
    )
    assert better(exact, twin, PLAIN) is exact


def test_a_device_that_is_lost_while_fp16_is_tried_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    twin = half(GENERAL)
    assert twin is not None
    exact = session_of(GENERAL)

    def lost(self: Session, tiles: NDArray[np.generic]) -> Outputs:
        raise DeviceBroken("CUDA failure 700: an illegal memory access was encountered")

    monkeypatch.setattr(Session, "run", lost)
    with pytest.raises(DeviceBroken):
        better(exact, twin, PLAIN)


def test_doctor_s_probe_refuses_a_device_that_computes_wrong_values(monkeypatch: pytest.MonkeyPatch) -> None:
    assert probe_device(PLAIN).run_s > 0

    monkeypatch.setattr(Session, "run", lambda self, tiles: FAULTS["zeros"](right(self, tiles)))
    with pytest.raises(ConfigurationError, match="computes wrong values"):
        probe_device(PLAIN)


def test_what_is_compared_is_within_the_first_period_of_every_tile() -> None:
    assert max(golden.POINTS) // 4 < golden.PERIOD_PX / 2
    assert {point % 4 for point in golden.POINTS} == {0, 1, 2, 3}
    outputs = session_of(CLEAN).run(batch_of("scene", 64, 64))
    assert compared(outputs).shape == (len(golden.POINTS) ** 2 * 3,)


def test_a_shape_that_comes_out_wrong_in_the_warm_up_is_refused_with_its_size() -> None:
    work = GoldenWork(CLEAN, replace(LIKE_A_GPU, checks_warm_up=True), (64, 96), lane="clean")
    outputs = right(session_of(CLEAN), work.tile(0)[None])
    right_one, wrong_one = ([output[0] for output in given] for given in (outputs, FAULTS["zeros"](outputs)))

    work.check(right_one)
    with pytest.raises(ConfigurationError, match="on cuda:0 in tiles of 96 x 64 px: the device computes wrong values"):
        work.check(wrong_one)
    GoldenWork(CLEAN, LIKE_A_GPU, (64, 96)).check(wrong_one)


@pytest.mark.parametrize("model", ["superres-x4", "image-scoring-v1"])
def test_the_warm_up_of_a_gpu_is_checked(model: str) -> None:
    """Here on the CPU, in one shape."""
    load_runners(ModelSettings())
    runner = registry()[model](LimitSettings())
    runner.load_model(PLAIN)
    runner._device = replace(LIKE_A_GPU, sides=(64,), checks_warm_up=True)  # type: ignore[attr-defined]

    works = list(runner.warmup())

    assert works
    for work in works:
        for output in runner.infer(np.stack([work.tile(0)] * 2), work):
            work.check(output)
