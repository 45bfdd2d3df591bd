"""What exporters write into an ONNX file: Ultralytics' members, OpenVINO's `model_info`, and ONNX's `Image.*`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from penstock.models.inspection.findings import Findings
from penstock.models.inspection.graph import Graph

MOST_LABELS = 50_000


def describe_metadata(graph: Graph, findings: Findings) -> None:
    """Note everything that the metadata of the file say."""
    metadata = graph.metadata
    for path, key in (("licence", "license"), ("title", "description")):
        if metadata.get(key):
            findings.know(path, _line(metadata[key]), f"metadata `{key}`")
    if "Ultralytics" in metadata.get("author", "") or {"names", "stride"} <= metadata.keys():
        _describe_ultralytics(graph, findings)
    _describe_openvino(metadata, findings)
    _describe_onnx_image(metadata, findings)
    _describe_paddle(graph, findings)


def _describe_ultralytics(graph: Graph, findings: Findings) -> None:
    metadata = graph.metadata
    task = metadata.get("task", "detect")
    if task in TASKS:
        findings.know("kind", TASKS[task], f"Ultralytics' metadata: task {task}")
    labels = _ultralytics_names(metadata.get("names", ""))
    if labels and task in ("detect", "classify"):
        findings.know("output.labels", labels, "Ultralytics' metadata: names")
    size = _literal(metadata.get("imgsz", ""))
    if _is_size(size):
        findings.know("input.size", (size[1], size[0]), "Ultralytics' metadata: imgsz")
    why = "Ultralytics' networks take RGB of 0..1; the file does not say it, and some are fed otherwise"
    findings.guess_all({"input.range": "0-1", "input.colour": "RGB"}, why)
    if task == "classify":
        _describe_ultralytics_classifier(findings)
    else:
        _describe_ultralytics_detector(graph, task, len(labels), findings)


TASKS = {"detect": "image-to-boxes", "classify": "image-to-labels"}
"""Ultralytics' task -> kind; outputs of other tasks are given as they are."""

CHOICE = "a choice of whoever asks; Ultralytics' own default is another threshold for other purposes"


def _describe_ultralytics_detector(graph: Graph, task: str, labels: int, findings: Findings) -> None:
    why = "what Ultralytics' own predict does; the file does not say it"
    usual = {
        "input.resize": "letterbox",
        "input.resample": "bilinear",
        "input.pad_value": 114,
        "input.pad_at": "centre",
        "input.rounding": "round",
    }
    findings.guess_all(usual, why)
    if task != "detect":
        return
    metadata, dims = graph.metadata, graph.outputs[0].dims or ()
    ended = metadata.get("end2end") == "True" or _members(metadata.get("args", "")).get("nms") is True
    if ended or dims[-1:] == (6,):
        findings.know("output.boxes", "end2end", "Ultralytics' metadata: end2end")
        findings.guess("output.nms", "none", "an end-to-end network drops overlapping boxes itself, or needs not to")
        findings.guess("output.score", 0.25, "a choice; Ultralytics' own default")
        return
    for offset, form in ((4, "4+n"), (5, "5+n")):
        if labels and labels + offset in dims[1:]:
            findings.know("output.boxes", form, f"the output has {labels + offset} members for {labels} names")
            findings.know("output.transposed", dims[-1] == labels + offset, f"the output is {graph.outputs[0]}")
    findings.know("output.activation", "fused", "Ultralytics' exports end with the scores' sigmoid")
    findings.guess("output.nms", "class", "usual; some drop boxes that overlap those of other classes too")
    findings.guess_all({"output.score": 0.25, "output.iou": 0.45}, "a choice, no property of the file")


def _describe_ultralytics_classifier(findings: Findings) -> None:
    findings.know("output.activation", "fused", "Ultralytics' classifiers end with softmax")
    why = "what Ultralytics' own predict does; the file does not say it"
    findings.guess_all({"input.resize": "crop", "input.resample": "bilinear"}, why)


def _ultralytics_names(text: str) -> tuple[str, ...]:
    """The names in the order of their numbers, which need not be that of the text."""
    names = _literal(text)
    if isinstance(names, list):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or sorted(names, key=str) != sorted(range(len(names)), key=str):
        return ()
    return tuple(_line(names[n]) for n in range(len(names)))


def _is_size(size: Any) -> bool:
    return (
        isinstance(size, list | tuple) and len(size) == 2 and all(isinstance(s, int) and 0 < s <= 16_384 for s in size)
    )


def _describe_openvino(metadata: Mapping[str, str], findings: Findings) -> None:
    """OpenVINO's Model API: names such as `model_info labels`."""
    info = {key.removeprefix("model_info "): value for key, value in metadata.items() if key.startswith("model_info ")}
    if not info:
        return
    why = "OpenVINO's model_info"
    if info.get("labels"):
        findings.know("output.labels", tuple(info["labels"].split()[:MOST_LABELS]), f"{why}: labels")
    if info.get("reverse_input_channels"):
        swapped = info["reverse_input_channels"].lower() in ("true", "yes", "1")
        findings.know("input.colour", "RGB" if swapped else "BGR", f"{why}: reverse_input_channels")
    means, scales = _floats(info.get("mean_values", "")), _floats(info.get("scale_values", ""))
    if means or scales:
        findings.know("input.range", "0-255", f"{why}: mean_values and scale_values")
        findings.know("input.mean", means, f"{why}: mean_values")
        findings.know("input.std", scales, f"{why}: scale_values")
    if info.get("resize_type") in RESIZES:
        resize, pad_at = RESIZES[info["resize_type"]]
        findings.know("input.resize", resize, f"{why}: resize_type")
        findings.know("input.pad_at", pad_at, f"{why}: resize_type")
    if pads := _floats(info.get("pad_value", "")):
        findings.know("input.pad_value", pads[0], f"{why}: pad_value")
    for path, key in (("output.score", "confidence_threshold"), ("output.iou", "iou_threshold")):
        if numbers := _floats(info.get(key, "")):
            findings.know(path, numbers[0], f"{why}: {key}")


RESIZES = {
    "standard": ("stretch", "end"),
    "crop": ("crop", "end"),
    "fit_to_window": ("letterbox", "end"),
    "fit_to_window_letterbox": ("letterbox", "centre"),
}
"""OpenVINO's resize_type -> how an image is resized, and where it is padded."""


def _describe_onnx_image(metadata: Mapping[str, str], findings: Findings) -> None:
    for key, (path, values) in ONNX_IMAGE.items():
        if metadata.get(key) in values:
            findings.know(path, values[metadata[key]], f"metadata `{key}`")


ONNX_IMAGE: dict[str, tuple[str, dict[str, str]]] = {
    "Image.BitmapPixelFormat": (
        "input.colour",
        {"Gray8": "grey", "Rgb8": "RGB", "Bgr8": "BGR", "Rgba8": "RGBA", "Bgra8": "BGRA"},
    ),
    "Image.NominalPixelRange": (
        "input.range",
        {"NominalRange_0_255": "0-255", "Normalized_0_1": "0-1", "Normalized_1_1": "-1-1"},
    ),
}
"""ONNX's own names for what an image is, from its document MetadataProps."""


def _describe_paddle(graph: Graph, findings: Findings) -> None:
    """RapidAI's exports of Paddle's networks keep the names of the classes, or the alphabet, under `character`."""
    labels = tuple(graph.metadata.get("character", "").splitlines()[:MOST_LABELS])
    dims = graph.outputs[0].dims or ()
    if labels and len(dims) == 2 and dims[1] == len(labels):
        findings.know("output.labels", labels, "metadata `character`")


def _literal(text: str) -> Any:
    """A literal of Python, as Ultralytics writes them; an empty dictionary for anything else."""
    try:
        return ast.literal_eval(text) if len(text) < 1_000_000 else {}
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return {}


def _members(text: str) -> dict[Any, Any]:
    found = _literal(text)
    return found if isinstance(found, dict) else {}


def _floats(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.replace(",", " ").split()[:4])
    except ValueError:
        return ()


def _line(text: Any) -> str:
    whole = str(text).encode(errors="replace").decode()  # a literal may have half of a surrogate pair
    return " ".join(whole.split())[:200]
