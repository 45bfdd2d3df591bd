"""`penstock models add` and `check`: from a file to a folder that is served, or to one clear line."""

import json
import os
import random
from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from penstock.cli.main import cli
from penstock.cli.models.add import KINDS
from penstock.cli.models.adding import version_for
from penstock.errors import ConfigurationError
from penstock.models.declared.definition import Kind
from penstock.models.declared.document import InvalidModel, read_definition
from penstock.models.inspection.child import ChildRefusal, in_child
from penstock.models.inspection.draft import DraftRequest, ModelDraft, draft
from penstock.models.inspection.verify import VerifyRequest, verify
from penstock.models.repository.tree import write_version
from tests.support.graphs import classifier, external, port, save, upscaler


def call(*arguments: str | Path) -> Result:
    """A command, where no server can be reached."""
    away = {"PENSTOCK_REDIS_URL": "unix:///nowhere/redis.sock"}
    return CliRunner().invoke(cli, ["models", *map(str, arguments)], env=away)


def drafted(file: Path, *said: str, example: str = "") -> Path:
    """The folder of a model, made without a process of its own."""
    folder = file.parent / "draft"
    folder.mkdir(exist_ok=True)
    draft(DraftRequest(file=str(file), folder=str(folder), name="net", said=said, example=example))
    return folder


def refused(result: Result) -> str:
    """The line of the error with which a command ended."""
    assert result.exit_code != 0, result.output
    assert isinstance(result.exception, ConfigurationError), result.exception
    assert str(result.exception).isprintable()
    return str(result.exception)


def test_a_file_becomes_a_model_with_an_example_and_its_answer(tmp_path: Path) -> None:
    folder = drafted(classifier(tmp_path, softmax=True))

    definition = read_definition(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["answer.json", "example.jpg", "model.toml", "net.onnx"]
    assert definition.kind == "image-to-labels"
    assert "input.colour" in definition.guessed
    assert len(json.loads((folder / "answer.json").read_text())["labels"]) == 5
    assert 'layout = "NCHW"  # the input is n×3×32×24' in (folder / "model.toml").read_text()


def test_a_file_is_added_described_anew_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    file, data = classifier(tmp_path, classes=2), tmp_path / "data"

    first = call("add", file, "--data-dir", data)
    again = call("add", file, "--data-dir", data, "--set", "input.colour=BGR", "--set", "output.labels=cat,dog")
    checked = call("check", "net@1", "--data-dir", data)

    assert (first.exit_code, again.exit_code, checked.exit_code) == (0, 0, 0), first.output + again.output
    assert "net@1  image-to-labels" in first.output
    assert "--set input.colour=RGB or BGR" in first.output
    assert "penstock submit photo.jpg --model net" in first.output
    assert max(map(len, first.output.splitlines())) <= 80
    assert not any(line.endswith(" ") for line in first.output.splitlines())
    assert [path.name for path in (data / "models" / "net").iterdir()] == ["1"]
    definition = read_definition(data / "models" / "net" / "1")
    assert definition.output.labels == ("cat", "dog")
    assert "input.colour" not in definition.guessed
    assert "answers its example as it should" in checked.output
    assert "guessed: kind" in checked.output


def test_the_same_file_keeps_its_version_and_another_one_gets_the_next(tmp_path: Path) -> None:
    file = classifier(tmp_path)
    write_version(tmp_path, "net", "7", {path.name: path for path in drafted(file).iterdir()})

    assert version_for(tmp_path, "net", file) == "7"
    assert version_for(tmp_path, "other", file) == "1"
    assert version_for(tmp_path, "net", classifier(tmp_path, classes=9)) == "8"


def test_a_version_with_another_file_is_replaced_when_that_is_said_alone(tmp_path: Path) -> None:
    data = tmp_path / "data"
    version = ("--name", "net", "--version", "2", "--data-dir", data)
    file = classifier(tmp_path)
    write_version(data / "models", "net", "1", {path.name: path for path in drafted(file).iterdir()})

    first = call("add", file, *version)
    other = classifier(tmp_path, classes=9)
    taken = call("add", other, *version)
    replaced = call("add", other, *version, "--replace")

    assert "written in" in first.output
    assert "penstock submit photo.jpg --model net@2" in first.output, "the bare name means the other version"
    assert refused(taken) == "net@2 is there with another file: give another --version, or --replace"
    assert "replaced in" in replaced.output


def test_an_upscaler_answers_with_an_image(tmp_path: Path) -> None:
    folder = drafted(upscaler(tmp_path))

    assert (folder / "answer.png").stat().st_size > 0
    assert read_definition(folder).output.scale == 2


def test_the_kinds_to_choose_from_are_those_there_are() -> None:
    assert get_args(Kind) == KINDS


def test_long_lists_of_labels_go_into_a_file(tmp_path: Path) -> None:
    said = ",".join(f"class {n}" for n in range(300))

    folder = drafted(classifier(tmp_path, classes=300), f"output.labels={said}")

    assert read_definition(folder).output.labels == "labels.txt"
    assert len((folder / "labels.txt").read_text().splitlines()) == 300


@pytest.mark.parametrize("where", ["here", "beside"])
def test_a_file_of_labels_comes_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    file, data_dir = classifier(tmp_path, softmax=True), tmp_path / "data"
    (tmp_path / where).mkdir()
    monkeypatch.chdir(tmp_path / where)
    names = tmp_path / where / "names.txt" if where == "here" else tmp_path / "names.txt"
    names.write_text("".join(f"class {n}\n" for n in "abcdefg"))

    added = call("add", file, "--set", "output.labels=names.txt", "--data-dir", data_dir)

    assert added.exit_code == 0, added.output
    assert '"label": "class ' in added.output
    (folder,) = (data_dir / "models" / "net").iterdir()
    assert read_definition(folder).output.labels == "labels.txt"
    names.write_text("one\n" * 8)
    shifted = call("add", file, "--set", "output.labels=names.txt", "--data-dir", data_dir, "--version", "2")
    assert refused(shifted).endswith("output.labels has 8 names, and the graph gives 7 numbers")
    names.unlink()
    missing = call("add", file, "--set", "output.labels=names.txt", "--data-dir", data_dir)
    assert refused(missing).endswith("there is no such file, neither here nor beside the ONNX file")


def test_one_is_told_how_to_name_classes_without_names(tmp_path: Path) -> None:
    added = call("add", classifier(tmp_path), "--data-dir", tmp_path / "data")

    assert "--set output.labels=labels.txt" in added.output


def test_weights_beside_the_file_come_along(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(np.arange(4, dtype=np.float32).tobytes())

    folder = drafted(external(tmp_path, "weights"))

    assert (folder / "weights").read_bytes() == (tmp_path / "weights").read_bytes()
    assert read_definition(folder).data.keys() == {"weights"}


def test_arrays_that_an_operator_gives_are_the_example(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["a", "b"], ["y"])]
    file = save(tmp_path, nodes, [port("a", [2, "n"]), port("b", [2, "n"])], [port("y", [2, "n"])])
    np.savez(tmp_path / "some.npz", a=np.ones((2, 3), np.float32), b=np.full((2, 3), 4, np.float32))

    folder = drafted(file, example=str(tmp_path / "some.npz"))

    answer = json.loads((folder / "answer.json").read_text())
    assert answer["outputs"]["y"]["values"] == [[5, 5, 5], [5, 5, 5]]


def test_a_model_that_answers_otherwise_or_was_changed_fails_its_check(tmp_path: Path) -> None:
    folder = drafted(classifier(tmp_path))
    assert verify(VerifyRequest(folder=str(folder))).has_example

    answer = json.loads((folder / "answer.json").read_text())
    answer["labels"][0]["probability"] = 0.123
    (folder / "answer.json").write_text(json.dumps(answer))
    with pytest.raises(ConfigurationError, match=r"labels\[0\]\.probability is"):
        verify(VerifyRequest(folder=str(folder)))

    (folder / "net.onnx").write_bytes(b"another")
    with pytest.raises(InvalidModel, match=r"net\.onnx is missing, or another file than that of sha256"):
        verify(VerifyRequest(folder=str(folder)))
    failed = call("check", str(folder), "--json")
    assert failed.exit_code == 1
    assert "another file than that of sha256" in json.loads(failed.output)["problem"]


def test_a_name_that_means_no_model_is_refused_with_those_there_are(tmp_path: Path) -> None:
    file = classifier(tmp_path)
    write_version(tmp_path / "models", "net", "1", {path.name: path for path in drafted(file).iterdir()})

    for reference in ("nothing", "net@9", "../../etc/passwd", "/etc"):
        line = refused(call("check", reference, "--data-dir", tmp_path))
        assert line.endswith("which has net@1"), line


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--name", "../up"], "'../up' is no name of a model: it must look like [a-z0-9][a-z0-9._-]{0,63}"),
        (["--version", "../1"], "'../1' is no version of a model: it must look like [A-Za-z0-9][A-Za-z0-9._-]{0,31}"),
        (["--set", "input.range=5"], "--set input.range=5: it is one of 0-1, -1-1, 0-255"),
    ],
)
def test_wrong_arguments_are_refused_and_write_nothing(tmp_path: Path, arguments: list[str], line: str) -> None:
    result = call("add", classifier(tmp_path), "--data-dir", tmp_path / "data", *arguments)

    assert refused(result) == line
    assert not (tmp_path / "data").exists()


# --- hostile files --------------------------------------------------------------------------------------------


def test_a_graph_that_computes_a_huge_array_while_it_is_loaded_is_stopped(tmp_path: Path) -> None:
    shape = numpy_helper.from_array(np.array([200_000, 200_000], np.int64), "s")
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["r"], keepdims=0),
        helper.make_node("Add", ["a", "r"], ["y"]),
    ]
    file = save(tmp_path, nodes, [port("a", [1, 4])], [port("y", [1, 4])], [shape])

    result = call("add", file, "--data-dir", tmp_path / "data")

    if result.exit_code:
        assert refused(result)
    else:  # added without an answer
        assert "no answer" in result.output


def test_a_reader_that_crashes_hangs_or_runs_out_of_memory_is_a_line(tmp_path: Path) -> None:
    request = DraftRequest(file=str(tmp_path / "none.onnx"), folder=str(tmp_path), name="net")
    with pytest.raises(InvalidModel, match=r"the file was given up after 0\.01 s"):
        in_child("draft", request, ModelDraft, folder=tmp_path, limit_s=0.01)
    with pytest.raises(InvalidModel, match=r"the file makes its reader fail \(KeyError: 'no such act'\)"):
        in_child("no such act", ChildRefusal(refused=""), ModelDraft, folder=tmp_path)
    with pytest.raises(InvalidModel, match=r"none\.onnx: it cannot be read: No such file or directory"):
        in_child("draft", request, ModelDraft, folder=tmp_path)


def test_without_the_package_onnx_one_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = classifier(tmp_path)
    (tmp_path / "onnx.py").write_text("raise ModuleNotFoundError('not here', name='onnx')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    line = refused(call("add", file, "--data-dir", tmp_path / "data"))

    assert line == "the package onnx is not installed; penstock-server[cpu] and [gpu] have it"


@pytest.mark.parametrize("cases", [2, pytest.param(100, marks=pytest.mark.at_length)])
def test_damaged_files_end_in_one_line_and_leave_nothing_behind(tmp_path: Path, cases: int) -> None:
    whole = upscaler(tmp_path).read_bytes()
    rng = random.Random(cases)
    for _ in range(cases):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 20)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        (tmp_path / "net.onnx").write_bytes(data)

        result = call("add", tmp_path / "net.onnx", "--data-dir", tmp_path / "data")

        if result.exit_code:
            assert len(refused(result)) < 600
    hidden = [name for _, folders, _ in os.walk(tmp_path / "data") for name in folders if name.startswith(".")]
    assert hidden == []


@pytest.mark.parametrize("name", ["example.jpg", "answer.json", "labels.txt", "model.toml"])
def test_a_file_with_the_name_of_another_file_of_a_model_is_refused(tmp_path: Path, name: str) -> None:
    file = classifier(tmp_path).rename(tmp_path / name)

    line = refused(call("add", file, "--name", "net", "--data-dir", tmp_path / "data"))
    assert line == f"{name} is the name of another file of a model: give it another one"


def test_a_file_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    file = classifier(tmp_path).rename(tmp_path / "caf\udce9.onnx")

    assert "has a name that is not UTF-8" in refused(
        call("add", file, "--name", "net", "--data-dir", tmp_path / "data")
    )


def test_a_model_without_an_example_that_is_small_enough_says_so(tmp_path: Path) -> None:
    nodes = [helper.make_node("ReduceSum", ["a"], ["y"], keepdims=0)]
    file = save(tmp_path, nodes, [port("a", [8192, 8192], TensorProto.DOUBLE)], [port("y", [], TensorProto.DOUBLE)])

    assert "no answer: its inputs take more than 64 MiB" in call("add", file, "--data-dir", tmp_path / "data").output


def test_strings_and_sequences_need_a_runner(tmp_path: Path) -> None:
    nodes = [helper.make_node("StringNormalizer", ["a"], ["y"])]
    ports = [port("a", ["n"], TensorProto.STRING)], [port("y", ["n"], TensorProto.STRING)]
    onnx.checker.check_model(onnx.load(save(tmp_path, nodes, *ports)))

    with pytest.raises(InvalidModel, match=r"net\.onnx: 'a' is no tensor of numbers; such graphs need a runner"):
        drafted(tmp_path / "net.onnx")
