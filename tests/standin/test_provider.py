"""What the CUDA provider does with the shipped files and the options that Penstock gives it."""

from tests.standin.card import Card

OPEN = """
import json
from collections import Counter, defaultdict
from importlib import resources
from penstock.core.device import Device
from penstock.models.onnxruntime.providers import setup
from penstock.models.onnxruntime.session import files_of
import onnxruntime
from tests.standin.batches import blank
from tests.standin.counts import counts, difference
from tests.support.networks import with_weights

onnxruntime.set_default_logger_severity(4)
device = Device(name="cuda:0", kind="cuda", threads=1, sides=(128,), batches=(1, 2))
files = {row.file: row for model in ("superres-x4", "image-scoring-v1") for row in files_of(model)}
HALF = files["superres-x4.general.fp16.onnx"]

def opened(contents, fp16=False, **options):
    wanted = setup(device, fp16=fp16, shapes=device.shapes, engines="")
    session_options = onnxruntime.SessionOptions()
    for name, value in wanted.entries.items():
        session_options.add_session_config_entry(name, value)
    providers = [(name, more | options) for name, more in wanted.providers]
    return onnxruntime.InferenceSession(contents, session_options, providers=providers, enable_fallback=0)

def of(row, **options):
    contents = with_weights(resources.files("penstock.weights") / row.file)
    return row, opened(contents, row.precision == "fp16", **options)

def nodes(session):
    placed = defaultdict(Counter)
    for part in session.get_provider_graph_assignment_info():
        placed[part.ep_name].update(node.op_type for node in part.get_nodes())
    return placed

def run(row, session):
    before = counts()
    session.run(None, {"image": blank(row, 1, 224, 224)})
    return difference(before)
"""


def test_every_node_of_every_file_is_placed_on_the_card(card: Card) -> None:
    placed = card.run(OPEN + "print(json.dumps({name: nodes(of(row)[1]) for name, row in files.items()}))")

    assert len(placed) >= 4
    for name, by_provider in placed.items():
        assert list(by_provider) == ["CUDAExecutionProvider"], name
        assert sum(by_provider["CUDAExecutionProvider"].values()) > 50


def test_with_sixteen_bits_every_node_is_placed_on_the_card_too(card: Card) -> None:
    deep = """
from penstock.models.onnxruntime.deep import deepened
exact = [row for row in files_of("superres-x4") if row.precision == "fp32" and row.device != "cpu"]
whole = {row.file: with_weights(resources.files("penstock.weights") / row.file) for row in exact}
print(json.dumps({name: nodes(opened(deepened(contents, name))) for name, contents in whole.items()}))
"""
    placed = card.run(OPEN + deep)

    assert len(placed) >= 2
    for name, by_provider in placed.items():
        assert list(by_provider) == ["CUDAExecutionProvider"], name


def test_a_node_that_the_card_cannot_have_is_not_given_to_the_cpu(card: Card) -> None:
    unique = """
from onnx import TensorProto, helper
image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n"])
values = helper.make_tensor_value_info("values", TensorProto.FLOAT, ["m"])
graph = helper.make_graph([helper.make_node("Unique", ["image"], ["values"])], "unique", [image], [values])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
try:
    opened(model.SerializeToString())
    print(json.dumps("it runs"))
except Exception as error:
    print(json.dumps(str(error)))
"""
    assert "fallback to CPU EP has been explicitly disabled" in card.run(OPEN + unique)


def test_each_convolution_of_the_fp16_file_runs_with_tensor_cores(card: Card) -> None:
    ran = card.run(OPEN + "opened = of(HALF); run(*opened); print(json.dumps(run(*opened)))")

    assert (ran["tensor_core_runs"], ran["other_runs"]) == (34, 0)


def test_no_convolution_in_fp32_runs_with_tensor_cores(card: Card) -> None:
    exact = "[run(*of(row)) for row in files.values() if row.precision == 'fp32']"
    ran = card.run(OPEN + f"print(json.dumps({exact}))")

    assert [one["tensor_core_runs"] for one in ran] == [0] * len(ran)
    assert all(one["other_runs"] for one in ran)


def test_a_bias_costs_no_pass_of_its_own_where_it_is_fused(card: Card) -> None:
    ran = card.run(OPEN + "print(json.dumps([run(*of(HALF)), run(*of(HALF, fuse_conv_bias='1'))]))")

    assert [one["added_biases"] for one in ran] == [34, 0]


def test_channels_last_needs_few_transposes(card: Card) -> None:
    placed = card.run(OPEN + "print(json.dumps([nodes(of(HALF)[1]), nodes(of(HALF, prefer_nhwc='1')[1])]))")

    usual, last = [one["CUDAExecutionProvider"].get("Transpose", 0) for one in placed]
    assert list(placed[1]) == ["CUDAExecutionProvider"]
    assert last - usual <= 3


def test_an_unknown_option_is_refused(card: Card) -> None:
    asked = "try:\n  of(HALF, no_such='1'); print(0)\nexcept Exception as error: print(json.dumps(str(error)))"

    assert "no_such" in str(card.run(OPEN + asked))
