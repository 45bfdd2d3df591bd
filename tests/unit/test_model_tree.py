"""The directory of models: what counts as a version, and that one comes and goes whole."""

from pathlib import Path

import pytest

from penstock.errors import ConfigurationError
from penstock.models import load_runners
from penstock.models.repository.tree import UNREADABLE, remove_version, scan, write_version
from penstock.settings import ModelSettings

TOML = b"schema = 1\n"


def add(directory: Path, model: str, **files: bytes) -> Path:
    name, _, version = model.partition("@")
    named = {file.replace("_", "."): content for file, content in files.items()}
    return write_version(directory, name, version, {"model.toml": TOML} | named)


def test_versions_are_found_side_by_side(tmp_path: Path) -> None:
    for model in ("face@1", "face@2-beta", "dog.small@3"):
        add(tmp_path, model)

    assert sorted(scan(tmp_path).versions) == ["dog.small@3", "face@1", "face@2-beta"]
    assert scan(tmp_path).refused == {}


def test_a_directory_that_is_not_there_has_no_versions(tmp_path: Path) -> None:
    assert scan(tmp_path / "none") == ({}, {})


def test_a_version_that_is_being_written_or_copied_is_none(tmp_path: Path) -> None:
    (tmp_path / "face" / ".2-ab12").mkdir(parents=True)
    (tmp_path / "face" / ".2-ab12" / "model.toml").write_bytes(TOML)
    (tmp_path / "face" / "3").mkdir()
    (tmp_path / "face" / "3" / "model.onnx").write_bytes(b"x")
    (tmp_path / ".hidden" / "1").mkdir(parents=True)

    assert scan(tmp_path) == ({}, {})


def test_names_that_cannot_be_ids_are_refused_with_a_reason(tmp_path: Path) -> None:
    for place in ("Face/1", "face/1@2", "face/-1", "a b/1"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "model.toml").write_bytes(TOML)
    found = scan(tmp_path)

    assert found.versions == {}
    assert sorted(found.refused) == ["Face", "a b", "face/-1", "face/1@2"]
    assert "must look like" in found.refused["Face"]


@pytest.mark.parametrize("link", ["face", "face/1", "face/1/model.onnx", "face/1/model.toml"])
def test_mo1_links_out_of_the_directory_are_not_followed(tmp_path: Path, link: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    add(elsewhere, "face@1", model_onnx=b"secret")
    root = tmp_path / "models"
    if link.count("/") == 2:
        add(root, "face@1") if link.endswith("onnx") else (root / "face" / "1").mkdir(parents=True)
    (root / link).parent.mkdir(parents=True, exist_ok=True)
    (root / link).symlink_to(elsewhere / link)
    found = scan(root)

    assert found.versions == {}
    assert any("link out of the directory" in reason for reason in found.refused.values())


def test_links_inside_of_the_directory_are_followed(tmp_path: Path) -> None:
    add(tmp_path, "face@1")
    (tmp_path / "face" / "2").symlink_to(tmp_path / "face" / "1")

    assert sorted(scan(tmp_path).versions) == ["face@1", "face@2"]


def test_the_directory_itself_may_be_a_link(tmp_path: Path) -> None:
    add(tmp_path / "real", "face@1")
    (tmp_path / "models").symlink_to(tmp_path / "real")

    assert sorted(scan(tmp_path / "models").versions) == ["face@1"]


@pytest.mark.parametrize("link", ["loop", "face/loop", "face/2/model.onnx"])
def test_what_cannot_be_read_is_refused_and_hides_nothing_else(tmp_path: Path, link: str) -> None:
    add(tmp_path, "face@1")
    add(tmp_path, "face@2")
    (tmp_path / link).symlink_to(tmp_path / link)
    found = scan(tmp_path)

    assert "face@1" in found.versions
    assert found.refused == {link.removesuffix("/model.onnx"): UNREADABLE}


def test_a_directory_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "models").symlink_to("models" + "x" * 300)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        scan(tmp_path / "models")


def test_the_stamp_changes_with_any_file(tmp_path: Path) -> None:
    folder = add(tmp_path, "face@1", model_onnx=b"one")
    before = scan(tmp_path).versions["face@1"].stamp
    same = scan(tmp_path).versions["face@1"].stamp
    (folder / "model.onnx").write_bytes(b"two!")

    assert same == before
    assert scan(tmp_path).versions["face@1"].stamp != before


def test_a_version_is_not_replaced_by_mistake(tmp_path: Path) -> None:
    add(tmp_path, "face@1", model_onnx=b"one")
    with pytest.raises(ConfigurationError, match="exists: give another version"):
        add(tmp_path, "face@1", model_onnx=b"two")
    write_version(tmp_path, "face", "1", {"model.toml": TOML, "new": b"x"}, replace=True)

    assert sorted(one.name for one in (tmp_path / "face" / "1").iterdir()) == ["model.toml", "new"]
    assert [one.name for one in (tmp_path / "face").iterdir()] == ["1"], "nothing is left beside it"


def test_a_file_that_is_given_by_its_path_is_copied(tmp_path: Path) -> None:
    source = tmp_path / "net.onnx"
    source.write_bytes(b"x" * 3_000_000)
    folder = write_version(tmp_path / "models", "face", "1", {"model.toml": TOML, "model.onnx": source})

    assert (folder / "model.onnx").read_bytes() == source.read_bytes()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        write_version(tmp_path, "face", "1", {"model.toml": TOML, "model.onnx": tmp_path / "none"})

    assert scan(tmp_path).versions == {}
    assert list((tmp_path / "face").iterdir()) == []


@pytest.mark.parametrize(("name", "version"), [("../face", "1"), ("Face", "1"), ("face", ""), ("face", "../1")])
def test_nothing_is_written_or_removed_outside_of_the_directory(tmp_path: Path, name: str, version: str) -> None:
    with pytest.raises(ConfigurationError, match="must look like"):
        write_version(tmp_path, name, version, {"model.toml": TOML})
    with pytest.raises(ConfigurationError, match="must look like"):
        remove_version(tmp_path, name, version or "..")


def test_a_version_is_removed_or_all_of_a_name(tmp_path: Path) -> None:
    for model in ("face@1", "face@2", "face@3", "dog@1"):
        add(tmp_path, model)

    assert remove_version(tmp_path, "face", "2") == ["face@2"]
    assert sorted(scan(tmp_path).versions) == ["dog@1", "face@1", "face@3"]
    assert remove_version(tmp_path, "face") == ["face@1", "face@3"]
    assert remove_version(tmp_path, "face") == []
    assert [one.name for one in tmp_path.iterdir() if one.is_dir()] == ["dog"]


def test_models_to_serve_may_be_in_code_in_the_directory_or_in_the_storage(tmp_path: Path) -> None:
    add(tmp_path, "face@2", model_onnx=b"x")
    settings = ModelSettings(serve=("face", "superres-x4"), directory=str(tmp_path))
    elsewhere = ModelSettings(serve=("elsewhere@1",), directory=str(tmp_path))

    assert load_runners(settings) == ["superres-x4"]
    assert load_runners(elsewhere, in_storage=True) == []
    with pytest.raises(ConfigurationError, match=r"there is no model elsewhere@1; known are .*\bface, "):
        load_runners(elsewhere)
