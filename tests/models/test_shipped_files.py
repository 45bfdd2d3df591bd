"""What lies in the package is what the manifest says, and what the sources make."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest

from tools.convert import recipes

Original = Callable[[str], dict[str, bytes]]


def test_a_shipped_file_has_the_digest_and_the_size_of_the_manifest(entry: dict[str, Any], models: Path) -> None:
    data = (models / entry["file"]).read_bytes()

    assert hashlib.sha256(data).hexdigest() == entry["sha256"]
    assert len(data) == entry["bytes"]


def test_a_shipped_file_passes_the_full_onnx_check(entry: dict[str, Any], models: Path) -> None:
    model = onnx.load(models / entry["file"])

    onnx.checker.check_model(model, full_check=True)

    assert (model.ir_version, model.opset_import[0].version) == (8, 17)


def test_a_shipped_file_leaves_nothing_to_the_cpu_that_a_gpu_could_not_run(entry: dict[str, Any], models: Path) -> None:
    """The CUDA provider hands whatever follows a shape to the CPU, and it cannot capture control flow."""
    kinds = {node.op_type for node in onnx.load(models / entry["file"]).graph.node}

    assert not kinds & {"Shape", "Size", "NonZero", "If", "Loop", "Scan", "SequenceAt"}


def test_a_shipped_file_names_its_owner_and_licence(entry: dict[str, Any], models: Path) -> None:
    model = onnx.load(models / entry["file"])

    assert entry["licence"] in model.doc_string
    assert entry["licence"] in Path(__file__).parents[2].joinpath("NOTICE").read_text()


def test_the_manifest_the_folder_and_the_recipes_list_the_same_files(models: Path) -> None:
    on_disk = {path.name for path in models.glob("*.onnx")}
    in_manifest = {line for line in (models / "manifest.toml").read_text().split('"') if line.endswith(".onnx")}

    assert on_disk == in_manifest == recipes.RECIPES.keys()


@pytest.mark.registry
def test_the_converter_makes_a_shipped_file_byte_for_byte(
    entry: dict[str, Any], models: Path, original: Original
) -> None:
    recipe = recipes.RECIPES[entry["file"]]

    built = recipe.convert(original(entry["file"]), storage=recipe.storage, about=recipe.about)

    assert built == (models / entry["file"]).read_bytes()
