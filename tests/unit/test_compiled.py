"""Files of tests are compiled once for all processes of a run."""

from pathlib import Path

import pytest
from _pytest.assertion import rewrite

from tests.support.compiled import with_assertions

TEXT = "def test_it():\n    assert 1 == 2\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "test_it.py"
    file.write_text(TEXT)
    return file


def test_pytest_finds_the_code_that_it_would_make_itself(
    file: Path, pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_assertions([file], pytestconfig)
    monkeypatch.setattr(rewrite, "_rewrite_test", lambda *_: pytest.fail("it compiles the file again"))
    spec = rewrite.importlib.util.spec_from_file_location(
        "test_it", file, loader=rewrite.AssertionRewritingHook(pytestconfig)
    )
    module = rewrite.importlib.util.module_from_spec(spec)

    spec.loader.exec_module(module)

    with pytest.raises(AssertionError, match="assert 1 == 2"):
        module.test_it()


def test_a_file_that_was_changed_is_compiled_again(file: Path, pytestconfig: pytest.Config) -> None:
    with_assertions([file], pytestconfig)
    (compiled,) = file.parent.glob("__pycache__/*.pyc")
    before = compiled.read_bytes()
    file.write_text(TEXT.replace("2", "3"))

    with_assertions([file], pytestconfig)

    assert compiled.read_bytes() != before
