"""Where runners of one's own are found, and what is said of those that cannot be."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock.errors import ConfigurationError
from penstock.models.digests import results_digest
from penstock.models.loading import files_of, load_modules, modules_of, runner_of
from penstock.models.registry import _REGISTRY, registry

MODEL = """
from penstock.models.base import BaseModelRunner
from penstock.models.registry import model_runner

@model_runner("{name}")
class {cls}(BaseModelRunner):
    answer = {answer}
    def prepare(self, input_data): return 0
    def infer(self, tensor): return tensor
    def postprocess(self, output): return {{"answer": output}}
"""


def model(name: str = "mine-v1", cls: str = "Mine", answer: str = "1") -> str:
    return MODEL.format(name=name, cls=cls, answer=answer)


@pytest.fixture(autouse=True)
def _nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before, modules = dict(_REGISTRY), set(sys.modules)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    _REGISTRY.clear()
    _REGISTRY.update(before)
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def written(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_a_file_is_found_by_its_path_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "own_models.py", model())
    monkeypatch.chdir(tmp_path)

    load_modules(("./own_models.py",))

    assert registry()["mine-v1"].__module__ == "own_models"
    assert sys.modules["own_models"] is modules_of(str(tmp_path / "own_models.py"))[0]


def test_a_file_imports_those_beside_it(tmp_path: Path) -> None:
    written(tmp_path / "own_weights.py", "ANSWER = 7")
    path = written(tmp_path / "own_models.py", "from own_weights import ANSWER\n" + model(answer="ANSWER"))

    assert runner_of(path).answer == 7  # type: ignore[attr-defined]


def test_a_file_named_like_a_module_of_python_hides_it_from_nobody(tmp_path: Path) -> None:
    path = written(tmp_path / "queue.py", model())

    load_modules((path,))

    assert hasattr(sys.modules["queue"], "SimpleQueue")
    assert registry()["mine-v1"].__module__.startswith("queue_")


def test_a_folder_stands_for_the_files_with_models_in_it(tmp_path: Path) -> None:
    for name, runner in (("one", "One"), ("two", "Two")):
        written(tmp_path / f"own_{name}.py", model(f"{name}-v1", runner))
    for name in ("_draft.py", "test_own_one.py", "conftest.py", "notes.txt"):
        written(tmp_path / name, "raise SystemExit")

    load_modules((f"{tmp_path}/",))

    assert {"one-v1", "two-v1"} <= set(registry())
    assert [path.name for path in files_of(str(tmp_path))] == ["own_one.py", "own_two.py"]


def test_an_edit_within_one_second_is_read(tmp_path: Path) -> None:
    """In processes of their own, as workers are: Python's cache of compiled modules goes by whole seconds."""
    path = tmp_path / "own_models.py"
    show = f"from penstock.models.loading import runner_of as r; print(r({str(path)!r}).answer)"
    seen = []
    for answer in ("1", "2"):
        path.write_text(model(answer=answer))
        seen.append(subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True).stdout)

    assert seen == ["1\n", "2\n"]


def test_the_digest_of_a_model_covers_its_file_what_it_imports_beside_it_and_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    whole = "import own_offset\n" + model(answer="1").replace(
        "    answer", "    files = ('weight.txt',)\n    answer", 1
    )
    contents = {"own_models.py": whole, "own_offset.py": "OFFSET = 0", "weight.txt": "1"}

    def digest(**edited: str) -> str:
        for name, text in contents.items():
            written(tmp_path / name, text + edited.get(name.partition(".")[0], ""))
        found = results_digest(runner_of(str(tmp_path / "own_models.py")))
        _REGISTRY.pop("mine-v1"), sys.modules.pop("own_models"), sys.modules.pop("own_offset")
        return found

    assert digest() == digest()
    assert len({digest(), digest(own_models="# 2"), digest(own_offset="0"), digest(weight="0")}) == 4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import os\nimport no_such_package", r"ModuleNotFoundError: No module named 'no_such_package' \(own\.py:2\)"),
        ("x = 1\ndef f(:\n", r"cannot import .*own\.py: SyntaxError: invalid syntax \(own\.py:2\)"),
        ("def f():\n    raise ValueError('one\\ntwo')\nf()", r"ValueError: one two \(own\.py:2\)"),
        ("import sys\nsys.exit(3)", r"SystemExit: 3 \(own\.py:2\)"),
        ("import json\njson.loads('{')", r"JSONDecodeError: .* \(own\.py:2\)"),
        (
            model().replace("self, tensor", "self"),
            r"own\.py:9: Mine\.infer \(model mine-v1\) takes \(self\); it should",
        ),
    ],
)
def test_a_file_that_cannot_be_imported_is_one_line_with_its_place(tmp_path: Path, text: str, says: str) -> None:
    path = written(tmp_path / "own.py", text)

    with pytest.raises(ConfigurationError, match=says) as refused:
        load_modules((path,))

    assert str(refused.value).startswith("models.modules: ")
    assert "\n" not in str(refused.value)
    assert "own" not in sys.modules, "an edited file can be read again"


def test_a_path_where_nothing_is_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"there is no file {tmp_path}/nothing.py"):
        load_modules((f"{tmp_path}/nothing.py",))


def test_a_module_that_is_not_there_says_so() -> None:
    with pytest.raises(ConfigurationError, match="cannot import no_such_module: ModuleNotFoundError"):
        load_modules(("no_such_module",))


def test_one_class_of_a_file_is_named_by_its_class_or_by_its_model(tmp_path: Path) -> None:
    path = written(tmp_path / "own_models.py", model() + model("other-v1", "Other"))

    assert runner_of(f"{path}:Mine") is runner_of(f"{path}:mine-v1") is registry()["mine-v1"]
    with pytest.raises(ConfigurationError, match=r"name one of .*own_models\.py:Mine, .*own_models\.py:Other"):
        runner_of(path)
    with pytest.raises(ConfigurationError, match="has no model Third; it has"):
        runner_of(f"{path}:Third")
    with pytest.raises(ConfigurationError, match="has no model: write @model_runner"):
        runner_of(written(tmp_path / "own_nothing.py", ""))


def test_two_files_cannot_have_models_of_one_name(tmp_path: Path) -> None:
    paths = [written(tmp_path / f"own_{letter}.py", model()) for letter in "ab"]

    with pytest.raises(
        ConfigurationError, match=r"two runners are named mine-v1: Mine of own_a\.py and Mine of own_b\.py"
    ):
        load_modules(tuple(paths))


def test_the_models_of_an_installed_package_are_found_by_its_entry_points(tmp_path: Path) -> None:
    """In a process of its own, which has the package on its path."""
    written(tmp_path / "installed_models.py", model())
    info = tmp_path / "installed-1.0.dist-info"
    info.mkdir()
    written(info / "METADATA", "Metadata-Version: 2.1\nName: installed\nVersion: 1.0\n")
    written(info / "entry_points.txt", "[penstock.models]\nall = installed_models\n")
    load = (
        "from penstock.models import load_runners; from penstock.settings import ModelSettings; "
        "print(*load_runners(ModelSettings()))"
    )

    def loaded() -> subprocess.CompletedProcess[str]:
        environ = {"PYTHONPATH": str(tmp_path), "PATH": ""}
        return subprocess.run([sys.executable, "-c", load], env=environ, capture_output=True, text=True, check=False)

    assert "mine-v1" in loaded().stdout.split()
    written(tmp_path / "installed_models.py", "import no_such_package")
    assert "cannot import the entry point all of installed: ModuleNotFoundError" in loaded().stderr.splitlines()[-1]
