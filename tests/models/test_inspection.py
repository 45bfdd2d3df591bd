"""What is found out about an ONNX file, and what is refused."""

import io
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.models.declared.definition import Definition, TensorSection
from penstock.models.declared.document import InvalidModel
from penstock.models.inspection.examples import examples_for
from penstock.models.inspection.findings import parse_said
from penstock.models.inspection.inspection import Inspection, inspect_file
from tests.support.graphs import classifier, conv, external, port, save, upscaler, weights


def values(found: Inspection) -> dict[str, Any]:
    return {f.path: f.value for f in (*found.said, *found.known, *found.guessed)}


def guessed(found: Inspection) -> set[str]:
    return {f.path for f in found.guessed}


def refusal(path: Path, *said: str) -> str:
    with pytest.raises(InvalidModel) as refused:
        inspect_file(path, parse_said(said))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_the_axes_and_the_size_of_an_image_are_known_and_its_colour_is_a_guess(tmp_path: Path) -> None:
    found = inspect_file(classifier(tmp_path), {})

    assert values(found)["input.layout"] == "NCHW"
    assert values(found)["input.size"] == (24, 32)
    assert found.definition.kind == "image-to-labels"
    assert found.definition.output.activation == "softmax"
    assert {"kind", "input.colour", "input.range", "input.resize", "output.activation"} <= guessed(found)
    assert not {"input.layout", "input.size", "input.channels"} & guessed(found)


def test_what_was_said_is_no_guess_and_beats_what_the_file_says(tmp_path: Path) -> None:
    said = parse_said(["input.colour=BGR", "input.mean=104,117,123", "input.range=0-255", "output.labels=a,b,c"])

    found = inspect_file(classifier(tmp_path, classes=3), said)

    assert found.definition.input.colour == "BGR"
    assert found.definition.input.mean == (104, 117, 123)
    assert found.definition.output.labels == ("a", "b", "c")
    assert not {"input.colour", "input.mean", "input.range"} & guessed(found)


def test_a_softmax_in_the_graph_is_seen(tmp_path: Path) -> None:
    found = inspect_file(classifier(tmp_path, softmax=True), {})

    assert values(found)["output.activation"] == "fused"
    assert "output.activation" not in guessed(found)


def test_a_scaling_in_the_graph_says_that_it_takes_levels(tmp_path: Path) -> None:
    node, kernel = conv("s")
    nodes = [
        helper.make_node("Div", ["x", "d"], ["s"]),
        node,
        helper.make_node("ReduceMean", ["c"], ["y"], axes=[2, 3]),
    ]
    constants = [kernel, numpy_helper.from_array(np.float32(255), "d")]
    path = save(tmp_path, nodes, [port("x", [1, 3, 32, 32])], [port("y", [1, 4, 1, 1])], constants)

    found = inspect_file(path, {})

    assert values(found)["input.range"] == "0-255"
    assert "input.range" not in guessed(found)


def test_tiny_kernels_make_levels_of_0_to_255_likely(tmp_path: Path) -> None:
    found = inspect_file(classifier(tmp_path, scale=0.001), {})

    assert values(found)["input.range"] == "0-255"
    assert "input.range" in guessed(found)


def test_an_input_of_bytes_takes_levels(tmp_path: Path) -> None:
    node, kernel = conv("f")
    nodes = [helper.make_node("Cast", ["x"], ["f"], to=TensorProto.FLOAT), node]
    ports = [port("x", [1, 3, 32, 32], TensorProto.UINT8)], [port("c", [1, 4, 32, 32])]

    found = inspect_file(save(tmp_path, nodes, *ports, [kernel]), {})

    assert (values(found)["input.dtype"], values(found)["input.range"]) == ("uint8", "0-255")


@pytest.mark.parametrize(("pads", "border"), [(1, 0), (0, 1)])
def test_scale_and_lost_border_of_an_upscaler_are_seen_in_runs(tmp_path: Path, pads: int, border: int) -> None:
    found = inspect_file(upscaler(tmp_path, pads=pads), {})

    assert found.definition.kind == "image-to-image"
    assert found.definition.output.scale == 2
    assert found.definition.input.border_px == border
    assert found.definition.tiles.allowed == "supported"


def test_ultralytics_metadata_say_what_a_detector_finds(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["m"]),
        helper.make_node("Mul", ["m", "k"], ["y"]),
    ]
    ports = [port("x", [1, 3, 64, 96])], [port("y", [1, 6, 126])]
    path = save(
        tmp_path, nodes, *ports, [weights("k", 1, 6, 126)],
        author="Ultralytics", task="detect", names="{0: 'cat', 1: 'dog'}", imgsz="[64, 96]", stride="32",
    )  # fmt: skip

    found = inspect_file(path, {})

    assert found.definition.kind == "image-to-boxes"
    assert found.definition.output.labels == ("cat", "dog")
    assert found.definition.output.boxes == "4+n"
    assert found.definition.input.size == (96, 64)
    assert {"kind", "output.labels", "output.boxes", "input.size"} & guessed(found) == set()
    assert {"input.colour", "input.pad_value", "input.resize", "output.score"} <= guessed(found)


@pytest.mark.parametrize(
    "metadata", [{"args": "[1]"}, {"args": "5"}, {"args": "{'nms'"}, {"imgsz": "[1e999, -5]"}, {"names": "{1: 'a'}"}]
)
def test_ultralytics_metadata_that_are_no_such_thing_do_no_harm(tmp_path: Path, metadata: dict[str, str]) -> None:
    usual = {"author": "Ultralytics", "task": "detect", "names": "{0: 'a'}", "stride": "32"}

    assert inspect_file(classifier(tmp_path, **usual | metadata), {}).definition.kind == "image-to-boxes"


def test_the_name_of_a_class_that_is_no_text_can_be_written(tmp_path: Path) -> None:
    names = "{0: 'a\\n[run]', 1: '\\ud800', 2: None, 3: '\"]', 4: '', 5: b'x', 6: 7}"
    path = classifier(tmp_path, author="Ultralytics", task="classify", names=names, stride="1")

    labels = inspect_file(path, {}).definition.output.labels
    assert labels == ("a [run]", "?", "None", '"]', "", "b'x'", "7")


def test_openvino_and_onnx_image_metadata_are_read(tmp_path: Path) -> None:
    info = {"labels": "cat big_dog", "mean_values": "104 117 123", "resize_type": "fit_to_window_letterbox"}
    named = {f"model_info {key}": value for key, value in info.items()}
    path = classifier(tmp_path, classes=2, **named, **{"Image.BitmapPixelFormat": "Bgr8"})

    found = inspect_file(path, {})

    assert found.definition.output.labels == ("cat", "big_dog")
    assert (found.definition.input.mean, found.definition.input.range) == ((104, 117, 123), "0-255")
    assert (found.definition.input.colour, found.definition.input.resize) == ("BGR", "letterbox")
    assert {"input.mean", "input.colour", "input.resize"} & guessed(found) == set()


def test_files_of_hugging_face_beside_it_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    folder.mkdir()
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "X", "do_center_crop": true, "size": {"shortest_edge": 40}, "do_normalize": true,'
        ' "crop_size": {"height": 32, "width": 24}, "image_mean": [0.5, 0.4, 0.3], "image_std": [0.1, 0.2, 0.3],'
        ' "resample": 3}'
    )
    (tmp_path / "config.json").write_text('{"id2label": {"0": "cat", "1": "dog"}}')

    found = inspect_file(classifier(folder, classes=2), {})

    image = found.definition.input
    assert (image.resize, image.short_side, image.size, image.resample) == ("crop", 40, (24, 32), "bicubic")
    assert (image.range, image.mean, image.std) == ("0-1", (0.5, 0.4, 0.3), (0.1, 0.2, 0.3))
    assert found.definition.output.labels == ("cat", "dog")
    assert guessed(found) == {"kind", "output.activation"}


@pytest.mark.parametrize(
    "content", ["[]", "{", "[" * 5000, '{"size": 3, "image_processor_type": 1, "image_mean": "x"}']
)
def test_files_beside_it_that_are_something_else_do_no_harm(tmp_path: Path, content: str) -> None:
    for name in ("preprocessor_config.json", "config.json", "labels.txt"):
        (tmp_path / name).write_text(content)

    assert inspect_file(classifier(tmp_path), {}).definition.kind == "image-to-labels"


def test_names_of_classes_in_a_text_file_are_taken_where_their_number_fits(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")

    assert inspect_file(classifier(tmp_path, classes=2), {}).definition.output.labels == ("cat", "dog")
    assert inspect_file(classifier(tmp_path, classes=3), {}).definition.output.labels == ()


def test_outputs_that_mean_nothing_to_us_are_given_as_arrays(tmp_path: Path) -> None:
    node, kernel = conv()
    nodes = [node, helper.make_node("Shape", ["x"], ["s"])]
    ports = [port("x", [1, 3, 32, 32])], [port("c", [1, 4, 32, 32]), port("s", [4], TensorProto.INT64)]

    found = inspect_file(save(tmp_path, nodes, *ports, [kernel]), {})

    assert found.definition.kind == "image-to-tensors"


def test_a_graph_without_an_image_takes_tensors(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    ports = [port("a", ["n", 5]), port("b", [None, 5])], [port("y", ["n", 5])]

    found = inspect_file(save(tmp_path, nodes, *ports), {})

    assert found.definition.kind == "tensors"
    assert [tensor.shape for tensor in found.definition.tensors] == [("n", 5), ("", 5)]
    assert refusal(tmp_path / "net.onnx", "kind=image-to-labels").endswith("the graph has none")


def test_an_image_beside_other_inputs_takes_tensors_and_the_reason_is_said(tmp_path: Path) -> None:
    ports = [port("image", [1, 3, 32, 32]), port("mask", [1, 1, 32, 32])], [port("y", [1, 3, 32, 32])]

    found = inspect_file(save(tmp_path, [helper.make_node("Mul", ["image", "mask"], ["y"])], *ports), {})

    (reason,) = (finding.why for finding in found.known if finding.path == "kind")
    assert found.definition.kind == "tensors"
    assert reason == "image may be an image, but mask must be given too; a runner takes both: penstock models new NAME"
    assert reason in refusal(tmp_path / "net.onnx", "kind=image-to-image")


@pytest.mark.parametrize(("dtype", "count", "fits"), [("uint8", 3, True), ("uint8", 5, False), ("float64", 1, False)])
def test_an_example_takes_no_more_than_64_mib(dtype: Any, count: int, fits: bool) -> None:
    tensors = tuple(TensorSection(name=f"x{n}", dtype=dtype, shape=(4096, 4096)) for n in range(count))
    definition = Definition(schema=1, kind="tensors", file="m.onnx", sha256="0" * 64, tensors=tensors)

    assert any(examples_for(definition, None)) is fits


# --- what is refused ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("location", ["../secret", "/etc/passwd", "sub/weights", "..", "", "a\\b", ".hidden", "a\0b"])
def test_weights_outside_of_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    assert "only a file beside it, in the same folder, is read" in refusal(external(tmp_path, location))


def test_mo2_weights_behind_a_link_or_missing_are_refused(tmp_path: Path) -> None:
    path = external(tmp_path, "weights")
    assert "which is no file beside it; links are not followed" in refusal(path)

    (tmp_path / "weights").symlink_to("/etc/passwd")
    assert "which is no file beside it; links are not followed" in refusal(path)


@pytest.mark.parametrize("location", ["weights", "/etc/passwd", "../secret"])
def test_weights_of_a_subgraph_in_another_file_are_refused(tmp_path: Path, location: str) -> None:
    """The runtime does not take them from memory, and opens no file itself."""
    (tmp_path / "weights").write_bytes(bytes(16))
    inner = onnx.load(external(tmp_path, location), load_external_data=False).graph
    body = helper.make_graph(inner.node, "then", [], [port("y", [1, 4])], inner.initializer)
    other = helper.make_graph([helper.make_node("Identity", ["a"], ["y"])], "else", [], [port("y", [1, 4])])
    node = helper.make_node("If", ["c"], ["z"], then_branch=body, else_branch=other)
    inputs = [port("a", [1, 4]), port("c", [], TensorProto.BOOL)]
    line = refusal(save(tmp_path, [node], inputs, [port("z", [1, 4])]))

    assert ("weights of a subgraph" if location == "weights" else "only a file beside it") in line


def test_weights_beyond_the_end_of_their_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"0" * 16)

    assert inspect_file(external(tmp_path, "weights"), {}).definition.data.keys() == {"weights"}
    assert "reads beyond the end of 'weights'" in refusal(external(tmp_path, "weights", length=17))


@pytest.mark.parametrize(
    ("operator", "domain"), [("Evil", "my.ops"), ("Tok", "ai.onnx.contrib"), ("EPContext", "com.microsoft")]
)
def test_custom_operators_are_refused(tmp_path: Path, operator: str, domain: str) -> None:
    nodes = [helper.make_node(operator, ["a"], ["y"], domain=domain)]
    path = save(tmp_path, nodes, [port("a", [1, 4])], [port("y", [1, 4])], domains=[domain])

    line = refusal(path)

    assert f"it uses the operator {operator!r} of {domain!r}, which is no part of ONNX Runtime" in line


@pytest.mark.parametrize("calls", ["itself", "the next one twice"])
def test_functions_that_grow_without_end_are_refused(tmp_path: Path, calls: str) -> None:
    path = save(tmp_path, [helper.make_node("F0", ["a"], ["y"], domain="own")], [port("a", [1])], [port("y", [1])])
    proto, opsets = onnx.load(path), [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for n in range(1 if calls == "itself" else 40):
        name = "F0" if calls == "itself" else f"F{n + 1}"
        body = [helper.make_node(name, ["a"], ["b"], domain="own"), helper.make_node(name, ["b"], ["c"], domain="own")]
        proto.functions.append(helper.make_function("own", f"F{n}", ["a"], ["c"], body, opsets))
    last = [helper.make_node("Identity", ["a"], ["c"])]
    proto.functions.append(helper.make_function("own", "F40", ["a"], ["c"], last, opsets))
    path.write_bytes(proto.SerializeToString())

    assert refusal(path).endswith("it has more than 200000 nodes when its functions are written out")


def test_a_custom_operator_deep_in_a_subgraph_is_found(tmp_path: Path) -> None:
    graph = helper.make_graph([helper.make_node("Evil", [], ["y"], domain="d")], "g", [], [port("y", [1])])
    for _ in range(3):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)
        graph = helper.make_graph([node], "g", [], [port("y", [1])])
    path = save(tmp_path, graph.node, [port("c", [1], TensorProto.BOOL)], [port("y", [1])])
    assert "it uses the operator 'Evil' of 'd'" in refusal(path)

    for _ in range(20):
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "g", [], [port("y", [1])])
    path = save(tmp_path, graph.node, [port("c", [1], TensorProto.BOOL)], [port("y", [1])])
    assert "it has subgraphs more than 16 levels deep" in refusal(path)


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (b"", "it has no graph: it is no ONNX file, or an empty one"),
        (b"\xff" * 1000, "it is no ONNX file, or it is damaged"),
        (b"version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS, not the file"),
        (b"GIF89a" * 10, "it is no ONNX file"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, data: bytes, line: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)

    assert line in refusal(path)


@pytest.mark.parametrize("name", [b"yyyyyy", b"xxxxxx", b"Flatten", b"kkkkkk", b"vvvvvv"])
def test_names_that_are_no_text_are_refused(tmp_path: Path, name: bytes) -> None:
    nodes = [helper.make_node("Flatten", ["xxxxxx"], ["yyyyyy"])]
    ports = [port("xxxxxx", ["n", 3, 32, 24])], [port("yyyyyy", ["n", 2304])]
    path = save(tmp_path, nodes, *ports, kkkkkk="vvvvvv")
    path.write_bytes(path.read_bytes().replace(name, b"\xff" * len(name)))

    assert "is no text" in refusal(path)


def test_a_huge_file_and_what_is_no_file_are_refused_without_being_read(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.touch()
    os.truncate(path, 2**31)
    assert "it has more than 2 GiB" in refusal(path)

    path.unlink()
    os.mkfifo(path)
    assert "it is no file" in refusal(path)


def test_a_damaged_file_is_refused_in_one_line_or_read(tmp_path: Path) -> None:
    whole = classifier(tmp_path, softmax=True).read_bytes()
    rng = random.Random(11)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 8)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "net.onnx").write_bytes(data[: rng.choice((len(data), rng.randrange(len(data))))])
        try:
            inspect_file(tmp_path / "net.onnx", {})
        except InvalidModel as error:
            refused += 1
            assert str(error).isprintable(), error  # noqa: PT017
    assert refused > 20


@pytest.mark.parametrize(
    ("said", "line"),
    [
        (
            "input.rnge=0-1",
            "--set input.rnge=0-1: say MEMBER=VALUE, such as input.range=0-255; did you mean input.range?",
        ),
        ("input.range=0-2", "--set input.range=0-2: it is one of 0-1, -1-1, 0-255"),
        ("input.size=0x9", "--set input.size=0x9: expected `int` >= 1"),
        ("sha256=abc", "--set sha256=abc: say MEMBER=VALUE, such as input.range=0-255"),
        ("nonsense", "--set nonsense: say MEMBER=VALUE, such as input.range=0-255"),
    ],
)
def test_what_was_said_wrongly_is_refused_with_what_may_be_said(said: str, line: str) -> None:
    with pytest.raises(InvalidModel) as refused:
        parse_said([said])
    assert str(refused.value) == line


def test_the_package_onnx_can_read_what_the_tests_write(tmp_path: Path) -> None:
    onnx.checker.check_model(onnx.load(classifier(tmp_path)))


@pytest.mark.parametrize("name", ["file", "allow_pickle", "x"])
def test_an_example_has_the_tensors_and_nothing_else_whatever_their_names_are(name: str) -> None:
    tensors = (TensorSection(name=name, dtype="float32", shape=(1, 3)),)
    definition = Definition(schema=1, kind="tensors", file="m.onnx", sha256="0" * 64, tensors=tensors)

    example = next(examples_for(definition, None))

    arrays = np.load(io.BytesIO(example.content), allow_pickle=False)
    assert {one: arrays[one].shape for one in arrays.files} == {name: (1, 3)}
