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
    if beside := entry.get("beside"):
        weights = (models / beside).read_bytes()
        assert hashlib.sha256(weights).hexdigest() == entry["beside_sha256"]
        assert len(weights) == entry["beside_bytes"]


def test_twins_in_other_arithmetic_have_the_same_weights_beside_them(models: Path) -> None:
    """And each has every byte of them: nothing is shipped that no graph reads."""
    for file in ("superres-x4.best.onnx", "superres-x4.best.fp16.onnx"):
        tensors = [t for t in onnx.load(models / file, load_external_data=False).graph.initializer if t.external_data]
        places = [{entry.key: entry.value for entry in tensor.external_data} for tensor in tensors]
        ends = [int(place["offset"]) + int(place["length"]) for place in places]

        assert [int(place["offset"]) for place in places] == [0, *ends[:-1]]
        assert ends[-1] == (models / places[0]["location"]).stat().st_size


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
    shipped = (".onnx", ".weights")
    on_disk = {path.name for path in models.iterdir() if path.suffix in shipped}
    in_manifest = {word for word in (models / "manifest.toml").read_text().split('"') if word.endswith(shipped)}

    assert on_disk == in_manifest == recipes.RECIPES.keys()


@pytest.mark.at_length
@pytest.mark.registry
def test_the_converter_makes_a_shipped_file_byte_for_byte(
    entry: dict[str, Any], models: Path, original: Original
) -> None:
    for file in filter(None, (entry["file"], entry.get("beside"))):
        assert recipes.RECIPES[file].made(original(file)) == (models / file).read_bytes()
