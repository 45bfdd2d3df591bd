"""`penstock try` runs a model in its own process: the result on stdout, everything else on stderr."""

import json
from pathlib import Path

import pytest

from tests.support.processes import penstock
from tests.support.tiny_models import add_model

PHOTO = Path(__file__).parents[2] / "src/penstock/models/photo.jpg"

MODELS = """
import logging
from penstock.models.base import BaseModelRunner, ProductFile
from penstock.models.registry import model_runner

class Common(BaseModelRunner):
    def infer(self, tensor):
        return tensor

    def postprocess(self, output):
        return output

@model_runner("brightness-v1")
class Brightness(Common):
    def prepare(self, input_data):
        print("printed by the model")
        logging.getLogger("mine").info("logged by the model")
        return {"mean": float(input_data["image"].image().rgb.mean())}

@model_runner("length-v1")
class Length(Common):
    inputs = {"audio": "file", "text": "json"}

    def prepare(self, input_data):
        if input_data["text"] == "fail":
            return self.fails()
        if input_data["text"] == "table":
            return {"bytes": 1, "table": ProductFile("table.json", b"[1]", "application/json")}
        return {"bytes": len(input_data["audio"]), "type": input_data["audio"].content_type, "text": input_data["text"]}

    def fails(self):
        raise ZeroDivisionError("by nothing")
"""


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "my_models.py").write_text(MODELS)
    (folder / "a.wav").write_bytes(b"RIFF....WAVE")
    return folder


def test_the_result_is_alone_on_stdout(here: Path) -> None:
    done = penstock(here, "try", "my_models.py:Brightness", str(PHOTO))

    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) == {"mean"}
    for part in ("printed by the model", "logged by the model", "brightness-v1 on cpu: loaded in", "infer"):
        assert part in done.stderr


def test_members_are_given_by_name(here: Path) -> None:
    done = penstock(here, "try", "my_models.py:Length", "--input", "audio=@a.wav", "--input", 'text={"a": [1]}')

    assert json.loads(done.stdout) == {"bytes": 12, "type": "audio/wav", "text": {"a": [1]}}


def test_a_result_is_kept_in_a_directory(here: Path) -> None:
    done = penstock(here, "try", "my_models.py:length-v1", "a.wav", "--input", "text=hi", "-o", "out")

    assert done.stdout.splitlines() == ["out/a.json"]
    assert json.loads((here / "out/a.json").read_text())["text"] == "hi"


def test_a_file_that_is_json_lies_beside_the_data(here: Path) -> None:
    done = penstock(here, "try", "my_models.py:Length", "a.wav", "--input", "text=table", "-o", "both")

    assert done.stdout.splitlines() == ["both/a.json", "both/a-data.json"], done.stderr
    assert (here / "both/a.json").read_bytes() == b"[1]"
    assert json.loads((here / "both/a-data.json").read_text())["bytes"] == 1


def test_a_folder_with_a_model_toml_is_tried_too(here: Path) -> None:
    add_model(here / "models", "says@2", 7.0)

    done = penstock(here, "try", "models/says/2", str(PHOTO))

    assert json.loads(done.stdout)["outputs"]["said"]["values"] == [[7.0]]
    assert "says@2 on cpu: loaded in" in done.stderr


def test_the_traceback_has_the_frames_of_the_model_and_none_of_ours(here: Path) -> None:
    done = penstock(here, "try", "my_models.py:Length", "a.wav", "--input", "text=fail")

    assert done.returncode == 1
    assert done.stdout == ""
    assert "in fails\n    raise ZeroDivisionError" in done.stderr
    assert "src/penstock" not in done.stderr
    assert done.stderr.splitlines()[-1] == "failed (model_error): the model raised ZeroDivisionError in prepare"


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["my_models.py:Length", "a.wav"], 78, "length-v1 needs its member text: give --input text='…'"),
        (["my_models.py:Length", "--input", "audio=https://a/b"], 2, "audio is a URL: download it first"),
    ],
)
def test_what_cannot_be_tried_is_said_in_one_line(here: Path, arguments: list[str], status: int, says: str) -> None:
    done = penstock(here, "try", *arguments)

    assert done.returncode == status
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
