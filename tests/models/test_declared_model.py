"""A folder with an ONNX file and a `model.toml`: what is refused at load, what is compared, and what is given back."""

import ctypes
import gc
import hashlib
import re
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import numpy_helper

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.intake.inline import bytes_of
from penstock.models.base import Interrupted
from penstock.models.declared.check import answered, stored_form
from penstock.models.declared.folders import answer_of_folder, describe_folder
from penstock.models.declared.kinds.tiles import TiledTensor
from penstock.models.declared.runner import DeclaredRunner, declared_runner
from penstock.settings import LimitSettings
from tests.support.declared import (
    ALONE,
    BATCHING,
    TYPES,
    data,
    folder_of,
    loaded,
    model,
    node,
    noise,
    pixels,
    png,
    served,
)

SCORES = 'kind = "image-to-scores"\n[input]\nsize = [4, 4]\nrange = "0-255"\n'
MEANS = [node("GlobalAveragePool", "x", "p"), node("Flatten", "p", "y")]
IMAGE = [("x", "float32", ["n", 3, 4, 4])]
ANSWER = [("y", "float32", ["n", 3])]
GREY = png(np.full((4, 4, 3), 8, np.uint8))


def times(factor: float, *, half: bool = False) -> bytes:
    """The means of the channels, times a factor."""
    steps = [*MEANS[:1], node("Flatten", "p", "f")]
    if not half:
        return model([*steps, node("Mul", "f k", "y")], IMAGE, ANSWER, k=np.float32(factor))
    steps += [
        node("Cast", "f", "h", to=TYPES["float16"]),
        node("Mul", "h k", "m"),
        node("Cast", "m", "y", to=TYPES["float32"]),
    ]
    return model(steps, IMAGE, ANSWER, k=np.float16(factor))


def refused(folder: Path, device: Device = ALONE) -> str:
    with pytest.raises(ConfigurationError) as refusal:
        loaded(folder, device)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


# --- files ----------------------------------------------------------------------------------------------------


def test_a_file_that_is_not_the_one_of_the_definition_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SCORES, times(1))
    (folder / "model.onnx").write_bytes(times(2))

    assert "model.onnx is another file than model.toml says" in refused(folder)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SCORES, times(1))
    (folder / "model.onnx").unlink()

    assert "cannot be read (No such file" in refused(folder)


def test_a_file_with_an_operator_of_somebody_else_is_refused(tmp_path: Path) -> None:
    custom = onnx.load_from_string(times(1))
    custom.graph.node[0].domain = "com.example"
    custom.opset_import.add(domain="com.example", version=1)

    assert "com.example" in refused(folder_of(tmp_path, SCORES, custom.SerializeToString()))


def with_external_data(place: Path, toml: str, location: str = "weights.bin") -> Path:
    """The model times(3), whose factor lies in a file of its own."""
    proto = onnx.load_from_string(times(3))
    (weights,) = proto.graph.initializer
    values = numpy_helper.to_array(weights).tobytes()
    weights.ClearField("raw_data")
    weights.data_location = onnx.TensorProto.EXTERNAL
    weights.external_data.add(key="location", value=location)
    weights.external_data.add(key="length", value=str(len(values)))
    folder = folder_of(place, toml, proto.SerializeToString(), weights_bin=values)
    (folder.parent / "outside.bin").write_bytes(values)
    return folder


DATA = f'[data]\n"weights.bin" = "{hashlib.sha256(np.float32(3).tobytes()).hexdigest()}"\n'


async def test_weights_may_lie_in_a_file_of_their_own(tmp_path: Path) -> None:
    folder = with_external_data(tmp_path, SCORES + DATA)

    (answer,) = await served(folder, [GREY])

    assert data(answer)["scores"] == [24.0, 24.0, 24.0]
    assert declared_runner(folder).weight_bytes() == (folder / "model.onnx").stat().st_size + 4


def test_weights_that_are_not_those_of_the_definition_are_refused(tmp_path: Path) -> None:
    folder = with_external_data(tmp_path, SCORES + DATA)
    (folder / "weights.bin").write_bytes(np.float32(4).tobytes())

    assert "weights.bin is another file" in refused(folder)


@pytest.mark.parametrize(
    ("toml", "location"),
    [
        (SCORES, "weights.bin"),
        (SCORES + DATA, "other.bin"),
        (SCORES + DATA, "../outside.bin"),
        (SCORES + DATA, "/etc/hostname"),
    ],
    ids=["not declared", "beside those declared", "above", "absolute"],
)
def test_weights_outside_of_the_folder_and_those_nobody_declared_are_refused(
    tmp_path: Path, toml: str, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = with_external_data(tmp_path, toml, location)
    (folder / "other.bin").write_bytes((folder / "weights.bin").read_bytes())
    monkeypatch.chdir(folder)  # the runtime would look into the working directory

    assert re.search("external (data|file)", refused(folder), re.IGNORECASE)


# --- the graph and the definition -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ('dtype = "float16"\n', "input.dtype: the graph takes float32, model.toml says float16"),
        ('layout = "CHW"\n', "input.layout: CHW, but the graph takes ['n', 3, 4, 4]"),
        ('layout = "NHWC"\n', "input.channels: the graph takes 4, model.toml says 3"),
        ('channels = 1\ncolour = "grey"\n', "input.channels: the graph takes 3, model.toml says 1"),
        ('name = "image"\n', "input.name: the graph has no input 'image'"),
        ('[output]\nname = "z"\n', "the graph has no output 'z'; it has y"),
    ],
)
def test_a_definition_that_the_graph_contradicts_is_refused(tmp_path: Path, more: str, message: str) -> None:
    toml = SCORES if "NHWC" not in more else SCORES.replace("size = [4, 4]\n", 'resize = "none"\n')

    assert message in refused(folder_of(tmp_path, toml + more, times(1)))


def test_a_size_that_the_graph_does_not_take_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SCORES.replace("[4, 4]", "[8, 4]"), times(1))

    assert "input.size: the graph takes 4x4" in refused(folder)


async def test_without_a_size_that_of_the_graph_is_taken(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SCORES.replace("size = [4, 4]\n", ""), times(1))

    (answer,) = await served(folder, [png(np.full((9, 7, 3), 5, np.uint8))])

    assert data(answer)["scores"] == [5.0, 5.0, 5.0]


def test_a_graph_of_two_inputs_is_no_network_of_one_image(tmp_path: Path) -> None:
    two = model([*MEANS[:1], node("Flatten", "p", "f"), node("Mul", "f k", "y")],
                [*IMAGE, ("k", "float32", [1])], ANSWER)  # fmt: skip

    assert "image-to-scores has one input, and the graph x, k" in refused(folder_of(tmp_path, SCORES, two))


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        ('name = "z"\nshape = ["n", 3, 4, 4]', "tensors: the graph takes x, not z"),
        ('name = "x"\nshape = ["n", 3, 4]', "tensors.x: the graph takes ['n', 3, 4, 4]"),
        ('name = "x"\nshape = ["n", 2, 4, 4]', "tensors.x: the graph takes ['n', 3, 4, 4]"),
        ('name = "x"\ndtype = "int64"\nshape = ["n", 3, 4, 4]', "the graph takes float32, model.toml says int64"),
    ],
)
def test_tensors_that_the_graph_does_not_take_are_refused(tmp_path: Path, tensor: str, message: str) -> None:
    folder = folder_of(tmp_path, f'kind = "tensors"\n[[tensors]]\n{tensor}\n', times(1))

    assert message in refused(folder)


def test_a_graph_that_fails_on_a_photo_is_refused_where_batches_are_compared(tmp_path: Path) -> None:
    broken = model([node("Reshape", "x five", "y")], IMAGE, [("y", "float32", [5])], five=np.array([5]))

    assert "the network fails on a photo" in refused(folder_of(tmp_path, SCORES, broken), BATCHING)


def test_a_device_that_computes_no_numbers_does_not_serve(tmp_path: Path) -> None:
    nothing = model([*MEANS, node("Sub", "y y", "z"), node("Div", "z z", "q")], IMAGE, [("q", "float32", ["n", 3])])

    assert "values that are not numbers" in refused(folder_of(tmp_path, SCORES, nothing), BATCHING)


# --- the check ------------------------------------------------------------------------------------------------

CHECK = '[check]\ninput = "photo.png"\nanswer = "answer.{}"\n'


@pytest.mark.parametrize(("factor", "fits"), [(1, True), (1.0005, True), (1.01, False)])
def test_a_model_whose_answer_is_off_is_not_served(tmp_path: Path, factor: float, fits: bool) -> None:
    stored = msgspec.json.encode({"scores": [8.0, 8.0, 8.0]})
    folder = folder_of(tmp_path, SCORES + CHECK.format("json"), times(factor), photo_png=GREY, answer_json=stored)

    if fits:
        assert loaded(folder).name == f"{tmp_path.name}@1"
    else:
        assert "[check] fails on cpu: scores[0] is 8.08, not 8" in refused(folder)


@pytest.mark.parametrize(
    ("stored", "params", "message"),
    [
        (b'{"scores": [8.0', "", "Input data was truncated"),
        (b"[8.0, 8.0, 8.0]", "", r"the answer is .*, not '\[8.0, 8.0, 8.0\]'"),
        (b'{"scores": [8.0, 8.0, 8.0]}', "params = {top_k = 0}\n", "top_k"),
    ],
)
def test_a_check_that_says_nothing_is_refused_in_one_line(
    tmp_path: Path, stored: bytes, params: str, message: str
) -> None:
    toml = SCORES + CHECK.format("json") + params
    toml = toml.replace("image-to-scores", "image-to-labels") if params else toml
    folder = folder_of(tmp_path, toml, times(1), photo_png=GREY, answer_json=stored)

    assert re.search(rf"\[check\] fails on cpu: .*{message}", refused(folder))


@pytest.mark.parametrize(("level", "fits"), [(0, True), (3, False)])
def test_the_answer_may_be_an_image(tmp_path: Path, level: int, fits: bool) -> None:
    toml = 'kind = "image-to-image"\n[input]\nresize = "none"\n' + CHECK.format("png")
    same = model([node("Neg", "x", "z"), node("Neg", "z", "y")], [("x", "float32", ["n", 3, "h", "w"])],
                 [("y", "float32", ["n", 3, "h", "w"])])  # fmt: skip
    image = noise(20, 30).clip(10, 200)
    folder = folder_of(tmp_path, toml, same, photo_png=png(image), answer_png=png(image + np.uint8(level)))

    if fits:
        assert loaded(folder).device_name == "cpu"
    else:
        assert "the pixels of the image are 0.0118 away on average" in refused(folder)


def test_the_answer_may_be_arrays_and_is_what_was_stored(tmp_path: Path) -> None:
    toml = SCORES.replace("image-to-scores", "image-to-embedding") + '[output]\nformat = "npy"\n'
    product = answer_of_folder(folder_of(tmp_path / "first", toml, times(1)), GREY)
    ending, stored = stored_form(product)

    checked = toml + CHECK.format(ending)
    loaded(folder_of(tmp_path / "same", checked, times(1), photo_png=GREY, answer_npy=stored))
    off = folder_of(tmp_path / "off", checked, times(2), photo_png=GREY, answer_npy=stored)

    assert "too far from the stored one" in refused(off)


def test_the_catalogue_shows_the_check_as_an_example(tmp_path: Path) -> None:
    stored = msgspec.json.encode({"scores": [8.0] * 100})
    folder = folder_of(tmp_path, SCORES + CHECK.format("json"), times(1), photo_png=GREY, answer_json=stored)

    example = describe_folder(folder, name="means", version="1").example

    assert example is not None
    assert example.data == {"scores": [8.0] * 8}
    assert bytes_of(example.input["image_url"], len(GREY)) == GREY


def test_the_catalogue_names_a_large_example_in_place_of_showing_it(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, SCORES + CHECK.format("json"), times(1), photo_png=GREY + bytes(2048), answer_json=b"{}"
    )

    example = describe_folder(folder, name="means", version="1").example

    assert example is not None
    assert example.input == {"image_url": "https://YOUR-SERVER/photo.png"}


# --- description ----------------------------------------------------------------------------------------------


def test_a_model_is_described_without_its_file(tmp_path: Path) -> None:
    guessed = '[guessed]\n"input.range" = "files do not say"\n'
    folder = folder_of(tmp_path, 'licence = "MIT"\n' + SCORES + guessed, times(1))
    (folder / "model.onnx").unlink()

    described = describe_folder(folder, name="means", version="7")

    assert described.id == declared_runner(folder, name="means", version="7").name == "means@7"
    assert (described.licence, described.produces, described.title) == ("MIT", "data", "means")
    assert described.guessed == {"input.range": "files do not say"}
    assert described.sole_image == "image"
    assert described.sizes.rule.kilopixels == 1


def test_inputs_of_tensors_are_members_with_a_schema(tmp_path: Path) -> None:
    toml = 'kind = "tensors"\n[[tensors]]\nname = "input:0"\ndtype = "int64"\nshape = ["n", 2]\n'

    inputs = describe_folder(folder_of(tmp_path, toml, times(1)), name="any", version="1").inputs

    assert inputs["input_0"].schema == {
        "type": "array",
        "items": {"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 2},
    }
    assert inputs["file"].kind == "file"


def digest_of(place: Path, toml: str, content: bytes = b"") -> str:
    return declared_runner(folder_of(place, toml, content or times(1), labels_txt=b"a\nb\nc\n")).digest()


@pytest.mark.parametrize(
    ("toml", "same"),
    [
        ('title = "Another"\n' + SCORES, True),
        (SCORES + "[run]\nwarm = true\n", True),
        (SCORES + 'resample = "area"\n', False),
        (SCORES + '[output]\nlabels = "labels.txt"\n', False),
        (SCORES + '[guessed]\n"input.range" = "files do not say"\n', False),
    ],
)
def test_the_digest_changes_with_what_changes_a_result(tmp_path: Path, toml: str, same: bool) -> None:
    assert (digest_of(tmp_path / "a", SCORES) == digest_of(tmp_path / "b", toml)) is same


def test_the_digest_changes_with_the_file_and_with_the_labels(tmp_path: Path) -> None:
    toml = SCORES + '[output]\nlabels = "labels.txt"\n'
    before = digest_of(tmp_path / "a", toml)
    assert digest_of(tmp_path / "b", toml, times(2)) != before

    folder = folder_of(tmp_path / "c", toml, times(1), labels_txt=b"a\nb\nd\n")
    assert declared_runner(folder).digest() != before


BOXES = 'kind = "image-to-boxes"\n[input]\nsize = [4, 4]\n'


def params_of(place: Path, toml: str) -> Any:
    return declared_runner(folder_of(place, toml, times(1))).params


def test_clients_may_set_what_the_kind_has_within_its_bounds(tmp_path: Path) -> None:
    params = params_of(tmp_path, BOXES + "[output]\nscore = 0.4\n")

    assert (params().score, params().iou) == (0.4, 0.45)
    with pytest.raises(msgspec.ValidationError, match="<= 1"):
        msgspec.convert({"score": 1.5}, params)


def test_a_definition_narrows_what_clients_may_set(tmp_path: Path) -> None:
    toml = BOXES + "[params.properties.score]\nminimum = 0.3\ndefault = 0.5\n"
    params = params_of(tmp_path, toml)

    assert params().score == 0.5
    for refused_params in ({"score": 0.2}, {"iou": 0.5}):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert(refused_params, params)


def test_bounds_of_a_whole_number_are_whole_and_those_of_a_fraction_need_not_be(tmp_path: Path) -> None:
    toml = (
        "[params.properties.most]\nminimum = 1.5\nmaximum = 20\ndefault = 9\n[params.properties.score]\ndefault = 1\n"
    )
    params = params_of(tmp_path, BOXES + toml)

    assert (params().most, params().score) == (9, 1.0)
    assert msgspec.convert({"most": 2, "score": 0.5}, params).score == 0.5
    for beyond in (1, 21):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"most": beyond}, params)


def test_the_form_of_tensors_may_only_be_one_of_those_there_are(tmp_path: Path) -> None:
    toml = 'kind = "image-to-tensors"\n[params.properties.format]\nenum = [["json"]]\n'
    with pytest.raises(ConfigurationError, match=r"params\.properties\.format: "):
        params_of(tmp_path, toml)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ("[params.properties.colour]\n", "this kind has no such parameter; it has score, iou, most"),
        ("[params.properties.score]\nminimum = 0.6\n", "Expected `float` >= 0.6"),
        ('[params.properties.score]\npattern = "x"\n', "unknown field `pattern`"),
        ("[params.properties.score]\nenum = [0.25, 0.5]\n", "score: enum may have whole numbers and words only"),
        ("[params.properties.most]\nenum = [1, 1000]\n", "most: Expected `int` <= 300"),
        ("[params.properties.most]\nmaximum = inf\n", "has inf, which is no value of JSON"),
        ("[params.properties.most]\nmaximum = 0\n", "most: Expected `int` <= 0"),
    ],
)
def test_params_that_the_kind_does_not_have_are_refused(tmp_path: Path, params: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        params_of(tmp_path, BOXES + params)


# --- fp16 and batches -----------------------------------------------------------------------------------------

GPU_LIKE = replace(BATCHING, precision="auto")


def with_half(place: Path, factor: float, tolerance: float = 0.01) -> Path:
    half = times(factor, half=True)
    said = f'[half]\nfile = "half.onnx"\nsha256 = "{hashlib.sha256(half).hexdigest()}"\ntolerance = {tolerance}\n'
    return folder_of(place, SCORES + said, times(3), half_onnx=half)


@pytest.mark.parametrize(("factor", "expected"), [(3.01, 24.08), (3.5, 24.0)])
async def test_a_twin_in_fp16_is_used_where_it_is_near_enough(tmp_path: Path, factor: float, expected: float) -> None:
    folder = with_half(tmp_path, factor)

    (answer,) = await served(folder, [GREY], GPU_LIKE)
    (exact,) = await served(folder, [GREY], replace(GPU_LIKE, precision="fp32"))

    assert data(answer)["scores"] == pytest.approx([expected] * 3, abs=0.02)
    assert data(exact)["scores"] == [24.0] * 3


def test_a_twin_that_is_another_file_is_not_used(tmp_path: Path) -> None:
    folder = with_half(tmp_path, 3.01)
    (folder / "half.onnx").write_bytes(b"other")

    assert data(answered(loaded(folder, GPU_LIKE), GREY))["scores"] == [24.0] * 3


def test_the_definition_bounds_the_batches(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SCORES + "[run]\nmax_batch = 2\n", times(1))

    assert loaded(folder, BATCHING).max_batch == 2


# --- runs and memory ------------------------------------------------------------------------------------------


def slow(weights: int = 0) -> bytes:
    """Hundreds of convolutions, each of some milliseconds."""
    nodes = [node("Conv", f"{'x' if n == 0 else f'c{n - 1}'} k", f"c{n}", pads=[1, 1, 1, 1]) for n in range(400)]
    kernel = np.random.default_rng(0).normal(0, 0.2, (3, 3, 3, 3)).astype(np.float32)
    last = [node("GlobalAveragePool", "c399", "p"), node("Tanh", "p", "t"), node("Flatten", "t", "y")]
    return model([*nodes, *last], [("x", "float32", [1, 3, 512, 512])], ANSWER, k=kernel)


def test_a_run_is_stopped_within_a_batch_of_a_graph_that_takes_one_at_a_time(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, SCORES.replace("[4, 4]", "[512, 512]"), slow())
    runner = loaded(folder)
    work = runner.prepare(GREY, runner.params())
    ends: list[BaseException] = []
    begun = threading.Event()

    def run() -> None:
        begun.set()
        try:
            runner.infer(np.stack([work.tile(0)] * 8), work)
        except Interrupted as end:
            ends.append(end)

    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    while thread.is_alive() and not ends:  # until the run has begun, there is nothing to stop
        runner.interrupt(work)
        thread.join(0.05)

    assert len(ends) == 1


def resident_mb() -> float:
    ctypes.CDLL(None).malloc_trim(0)  # what the allocator of the process keeps is nobody's
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def heavy(place: Path) -> Path:
    """A model with 24 MB of weights."""
    weights = np.random.default_rng(0).random((48, 125_000), np.float32)
    big = model(
        [node("Flatten", "x", "f"), node("MatMul", "f w", "m"), node("ReduceMax", "m", "y", axes=[1])],
        IMAGE, [("y", "float32", ["n", 1])], w=weights,
    )  # fmt: skip
    return folder_of(place, SCORES, big)


def test_an_unloaded_model_gives_its_memory_back(tmp_path: Path) -> None:
    folder = heavy(tmp_path)

    def loaded_runner() -> DeclaredRunner:
        runner: DeclaredRunner = declared_runner(folder)(LimitSettings())
        runner.load_model(ALONE)
        answered(runner, GREY)
        return runner

    loaded_runner().unload()
    start = resident_mb()
    together = [loaded_runner() for _ in range(6)]
    held_mb = resident_mb() - start
    for runner in together:
        runner.unload()
    together.clear()
    gc.collect()
    before = resident_mb()
    for _ in range(6):
        loaded_runner().unload()

    assert resident_mb() - before < held_mb / 4, "or one of six would have stayed"


def test_tiles_are_cut_smaller_and_the_image_stays_the_same(tmp_path: Path) -> None:
    toml = 'kind = "image-to-image"\n[input]\nresize = "none"\n[tiles]\nallowed = "discouraged"\noverlap_px = 8\n'
    same = model([node("Neg", "x", "z"), node("Neg", "z", "y")], [("x", "float32", ["n", 3, "h", "w"])],
                 [("y", "float32", ["n", 3, "h", "w"])])  # fmt: skip
    runner, image = loaded(folder_of(tmp_path, toml, same)), noise(200, 300)

    whole = runner.prepare(png(image), runner.params())
    smaller = whole.split_smaller(200 * 300 * 3)

    assert (whole.count, whole.shape) == (1, (3, 200, 300))
    assert isinstance(smaller, TiledTensor)
    assert smaller.count > 1
    for index in range(smaller.count):
        smaller.accept(index, runner.infer(smaller.tile(index)[None], smaller)[0])
    assert (pixels_of(runner, smaller) == image).all()


def pixels_of(runner: DeclaredRunner, work: Any) -> np.ndarray:
    from penstock.core.request import OutputOptions

    return pixels(runner.postprocess(work, runner.params(), OutputOptions()))
