"""Which files `--reload` looks at."""

import sys
from pathlib import Path

import pytest

from penstock.local.reload import folders_of, look, snapshot


def written(path: Path, text: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_stands_for_its_folder_and_a_folder_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path / "models" / "mine.py")
    monkeypatch.chdir(tmp_path)

    assert folders_of(str(file)) == folders_of("./models/mine.py") == folders_of("models/") == [tmp_path / "models"]


def test_a_package_stands_for_all_below_it_and_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written(tmp_path / "own_package" / "__init__.py", "raise SystemExit")
    written(tmp_path / "own_package" / "deep" / "nets.py")
    monkeypatch.syspath_prepend(tmp_path)

    assert folders_of("own_package.deep.nets") == [tmp_path / "own_package", tmp_path / "own_package" / "deep"]
    assert "own_package" not in sys.modules


def test_a_module_in_the_working_directory_is_found_as_workers_find_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "own_module.py")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])

    assert folders_of("own_module") == [tmp_path]
    assert folders_of("no_such_module") == []


def test_an_edit_of_code_or_of_a_network_counts_and_a_result_does_not(tmp_path: Path) -> None:
    code, network = written(tmp_path / "mine.py"), written(tmp_path / "net.onnx")
    before = snapshot([tmp_path])
    written(tmp_path / "photo.json", "{}")
    assert snapshot([tmp_path]) == before

    for path in (code, network):
        written(path, "longer")
        assert snapshot([tmp_path]) != before
        before = snapshot([tmp_path])
    code.unlink()

    assert set(snapshot([tmp_path, tmp_path / "gone"])) == {network}


def test_a_folder_that_goes_while_it_is_looked_at_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = written(tmp_path / "mine.py")
    monkeypatch.setattr(Path, "is_dir", lambda _: True)  # it went right after

    assert set(snapshot([tmp_path / "gone", tmp_path])) == {code}


def test_a_new_folder_of_a_package_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = written(tmp_path / "new_package" / "__init__.py")
    monkeypatch.syspath_prepend(tmp_path)
    assert set(look(["new_package"])) == {whole}

    deep = written(tmp_path / "new_package" / "deep" / "nets.py")

    assert set(look(["new_package"])) == {whole, deep}
