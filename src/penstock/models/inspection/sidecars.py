"""What stands in files beside an ONNX file: Hugging Face's `preprocessor_config.json` and `config.json`, and names of
classes in `labels.txt`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from penstock.models.declared.plain_file import read_plain
from penstock.models.inspection.findings import Findings
from penstock.models.inspection.graph import Graph

PREPROCESSOR, CONFIG = "preprocessor_config.json", "config.json"
LABELS = ("labels.txt", "classes.txt")
MOST_BYTES = 4 * 1024 * 1024

RESAMPLES = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "area"}
"""Pillow's numbers of its filters."""


def describe_sidecars(path: Path, graph: Graph, findings: Findings) -> None:
    """Note what files beside the graph say, or of Hugging Face's also in the folder above, as its exports have it."""
    folders = (path.parent, path.parent.parent) if path.parent.name == "onnx" else (path.parent,)
    preprocessor, config = (_json(name, folders) for name in (PREPROCESSOR, CONFIG))
    if "image_processor_type" in preprocessor or "feature_extractor_type" in preprocessor:
        _describe_preprocessor(preprocessor, findings)
    count = (graph.outputs[0].dims or (None,))[-1]
    for labels, why in ((_id2label(config), CONFIG), (_lines(path.parent), "a text file beside it")):
        if labels and len(labels) == count:
            findings.know("output.labels", labels, f"{why}: as many names as the output has numbers")


def _describe_preprocessor(said: dict[str, Any], findings: Findings) -> None:
    findings.know("input.colour", "RGB", f"{PREPROCESSOR}: its images are RGB")
    rescaled = said.get("do_rescale", True)
    findings.know("input.range", "0-1" if rescaled else "0-255", f"{PREPROCESSOR}: do_rescale")
    for path, key in (("input.mean", "image_mean"), ("input.std", "image_std")):
        numbers = said.get(key) if said.get("do_normalize") else []
        if isinstance(numbers, list) and (not numbers or _are_numbers(numbers)):
            findings.know(path, tuple(map(float, numbers)), f"{PREPROCESSOR}: do_normalize, {key}")
    if said.get("resample") in RESAMPLES:
        findings.know("input.resample", RESAMPLES[said["resample"]], f"{PREPROCESSOR}: resample")
    _describe_resize(said, findings)


def _describe_resize(said: dict[str, Any], findings: Findings) -> None:
    size, crop = said.get("size"), said.get("crop_size")
    shortest = size.get("shortest_edge") if isinstance(size, dict) else None
    if said.get("do_center_crop") and _side(shortest):
        findings.know("input.resize", "crop", f"{PREPROCESSOR}: do_center_crop")
        findings.know("input.short_side", shortest, f"{PREPROCESSOR}: size")
        _know_size(crop, "crop_size", findings)
    elif said.get("do_resize") and not said.get("do_center_crop") and _know_size(size, "size", findings):
        findings.know("input.resize", "stretch", f"{PREPROCESSOR}: do_resize")


def _know_size(size: Any, key: str, findings: Findings) -> bool:
    sides = (size.get("width"), size.get("height")) if isinstance(size, dict) else (size, size)
    if not all(map(_side, sides)):
        return False
    findings.know("input.size", sides, f"{PREPROCESSOR}: {key}")
    return True


def _side(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= 16_384


def _are_numbers(values: list[Any]) -> bool:
    return len(values) in (1, 3, 4) and all(isinstance(v, int | float) for v in values)


def _id2label(config: dict[str, Any]) -> tuple[str, ...]:
    names = config.get("id2label")
    if not isinstance(names, dict) or set(names) != {str(n) for n in range(len(names))}:
        return ()
    return tuple(" ".join(str(names[str(n)]).split()) for n in range(len(names)))


def _lines(folder: Path) -> tuple[str, ...]:
    for name in LABELS:
        if text := _content(folder / name):
            return tuple(line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip())
    return ()


def _json(name: str, folders: tuple[Path, ...]) -> dict[str, Any]:
    for folder in folders:
        try:
            return msgspec.json.decode(_content(folder / name), type=dict[str, Any])
        except (msgspec.DecodeError, RecursionError):
            continue
    return {}


def _content(path: Path) -> bytes:
    """The file's bytes; none where it is not there, or larger than such a file is."""
    try:
        content = read_plain(path, MOST_BYTES + 1)
    except OSError:
        return b""
    return content if len(content) <= MOST_BYTES else b""
