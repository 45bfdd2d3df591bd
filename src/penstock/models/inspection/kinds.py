"""What the outputs of a graph with one image mean, seen from their shapes and from the last operators."""

from __future__ import annotations

from penstock.models.inspection.findings import Findings
from penstock.models.inspection.graph import Dimension, Graph, GraphTensor
from penstock.models.inspection.image_input import ImageInput

EMBEDDING_SIZES = frozenset({64, 128, 192, 256, 384, 512, 640, 768, 1024, 1280, 1536, 2048})
EMBEDDING_NAMES = ("embed", "feature", "feat", "descriptor", "pooler")
FEWEST_BOXES = 20
STRIDES = (8, 16, 32)


def describe_outputs(graph: Graph, image: ImageInput, findings: Findings) -> None:
    """Note or guess the kind, and what the first output means. `image-to-tensors` is what always fits."""
    if "kind" in findings:
        return
    output = graph.outputs[0]
    if len(graph.outputs) > 1 and not _are_side_outputs(graph):
        findings.know("kind", "image-to-tensors", f"the graph has {len(graph.outputs)} outputs of different meaning")
        return
    if output.dtype not in ("float32", "float16") or output.rank not in (2, 3, 4):
        findings.know("kind", "image-to-tensors", f"the output is {output}")
    elif output.rank == 2:
        _describe_vector(graph, output, findings)
    elif output.rank == 3:
        _describe_rows(graph, output, image, findings)
    else:
        _describe_picture(output, image, findings)


def describe_activation(graph: Graph, findings: Findings) -> None:
    """Note what the graph ends with, or guess what is still to be computed."""
    kind = findings.get("kind")
    if kind not in ("image-to-labels", "image-to-scores", "image-to-mask", "image-to-boxes"):
        return
    name = findings.get("output.name") or graph.outputs[0].name
    ending = graph.ending(name)
    if ending[:1] in (["Softmax"], ["Sigmoid"]) or ending[:2] == ["Div", "Exp"]:
        which = "Sigmoid" if ending[0] == "Sigmoid" else "Softmax"
        findings.know("output.activation", "fused", f"the graph ends with {which}")
    elif kind == "image-to-labels":
        findings.guess("output.activation", "softmax", f"the graph ends with {_first(ending)}, so these are logits")
    elif kind == "image-to-mask" and findings.get("output.mask") != "classes":
        findings.guess("output.activation", "sigmoid", f"the graph ends with {_first(ending)}, so these are logits")
    elif kind == "image-to-scores":
        findings.guess("output.activation", "none", f"the graph ends with {_first(ending)}")


def _first(ending: list[str]) -> str:
    return ending[0] if ending else "no operator"


def _are_side_outputs(graph: Graph) -> bool:
    """Whether all outputs but the first are earlier versions of it, or features: what segmentation networks leave."""
    first, others = graph.outputs[0], graph.outputs[1:]
    return first.rank == 4 and first.dims is not None and first.dims[1] == 1 and all(o.rank == 4 for o in others)


def _describe_vector(graph: Graph, output: GraphTensor, findings: Findings) -> None:
    size, ending = (output.dims or ())[1], graph.ending(output.name)
    if size == 1:
        findings.guess("kind", "image-to-scores", f"the output is {output}: one number for an image")
    elif ending[:1] in (["Softmax"], ["Sigmoid"]) or ending[:2] == ["Div", "Exp"]:
        findings.guess("kind", "image-to-labels", f"the output is {output} and ends with {ending[0]}: classes")
    elif _is_embedding(output, size, ending):
        findings.guess("kind", "image-to-embedding", f"the output is {output}, and no probabilities")
        if "LpNormalization" in ending[:2] or "ReduceL2" in ending[:4]:
            findings.know("output.normalised", True, "the graph gives it the length 1")
        else:
            findings.guess(
                "output.normalised", False, "the graph does not give it the length 1; ask for it if you compare"
            )
    elif isinstance(size, int):
        findings.guess("kind", "image-to-labels", f"the output is {output}: a number for each of {size} classes")
    else:
        findings.know("kind", "image-to-tensors", f"the output is {output}")


def _is_embedding(output: GraphTensor, size: Dimension, ending: list[str]) -> bool:
    named = any(word in output.name.lower() for word in EMBEDDING_NAMES)
    return named or "LpNormalization" in ending[:2] or "ReduceL2" in ending[:4] or size in EMBEDDING_SIZES


def _describe_rows(graph: Graph, output: GraphTensor, image: ImageInput, findings: Findings) -> None:
    dims = output.dims or ()
    if isinstance(dims[2], int) and isinstance(dims[1], int) and _is_yolox(graph, dims[1], image):
        _describe_yolox(dims[1], findings)
    elif dims[2] == 6 and {"TopK", "NonMaxSuppression"} & graph.operators():
        findings.guess("kind", "image-to-boxes", f"the output is {output}: left, top, right, bottom, score, class")
        findings.guess("output.boxes", "end2end", "the graph has chosen the boxes itself")
        findings.guess("output.nms", "none", "the graph has chosen the boxes itself")
    elif _is_raw_boxes(dims, image):
        _describe_raw_boxes(graph, output, findings)
    else:
        findings.know("kind", "image-to-tensors", f"the output is {output}")


def _grids(image: ImageInput) -> int:
    """How many cells three grids of the usual strides have for this image; 0 where its size may vary."""
    if image.width is None or image.height is None:
        return 0
    return sum((image.width // stride) * (image.height // stride) for stride in STRIDES)


def _is_yolox(graph: Graph, rows: int, image: ImageInput) -> bool:
    """YOLOX's own export: a row for each cell, with logarithms of the sizes."""
    sliced = [node.op for node in graph.beginning(image.port.name)][:4] == ["Slice"] * 4
    return rows == _grids(image) and "Exp" not in graph.operators() and sliced


def _describe_yolox(rows: int, findings: Findings) -> None:
    why = f"YOLOX: the image is sliced in four, and {rows} rows are the cells of strides 8, 16, 32 without decoding"
    findings.guess("kind", "image-to-boxes", why)
    findings.guess_all({"output.boxes": "yolox", "output.strides": STRIDES}, why)
    usual = {
        "input.colour": "BGR", "input.range": "0-255", "input.resize": "letterbox", "input.rounding": "floor",
        "input.pad_value": 114, "input.pad_at": "end", "input.resample": "linear", "output.activation": "fused",
    }  # fmt: skip
    findings.guess_all(usual, "what YOLOX' own code does before and after its network")
    findings.guess_all({"output.score": 0.1, "output.iou": 0.45, "output.nms": "all"}, "YOLOX' own defaults")


def _is_raw_boxes(dims: tuple[Dimension, ...], image: ImageInput) -> bool:
    """Whether one axis has as many boxes as the usual grids have cells, and the other enough members for a box."""
    grids = _grids(image)
    pairs = ((dims[1], dims[2]), (dims[2], dims[1]))
    return any(boxes in (grids, 3 * grids) and grids and isinstance(n, int) and n >= 5 for n, boxes in pairs)


def _describe_raw_boxes(graph: Graph, output: GraphTensor, findings: Findings) -> None:
    dims = output.dims or ()
    transposed = isinstance(dims[1], int) and isinstance(dims[2], int) and dims[1] > dims[2]
    anchored = transposed and "Exp" not in graph.operators()  # YOLOv5 and v7 have three anchors and an objectness
    why = f"the output is {output}: as many boxes as the grids of strides 8, 16, 32 have cells"
    findings.guess("kind", "image-to-boxes", why)
    findings.know("output.transposed", transposed, f"the output is {output}")
    findings.guess("output.boxes", "5+n" if anchored else "4+n", f"usual for {dims[1]}×{dims[2]}")
    usual = {"input.resize": "letterbox", "input.pad_value": 114, "output.activation": "fused", "output.nms": "class"}
    findings.guess_all(usual, "usual for detectors of this form")
    findings.guess_all({"output.score": 0.25, "output.iou": 0.45}, "a choice, no property of the file")


def _describe_picture(output: GraphTensor, image: ImageInput, findings: Findings) -> None:
    dims = output.dims or ()
    channels = dims[1] if image.layout == "NCHW" else dims[3]
    if channels == image.channels:
        findings.guess("kind", "image-to-image", f"the output is {output}: as many channels as the input")
    elif channels == 1:
        findings.guess("kind", "image-to-mask", f"the output is {output}: one channel")
        findings.know("output.name", output.name, "the first output")
    elif isinstance(channels, int) and channels <= 256 and image.layout == "NCHW":
        findings.guess("kind", "image-to-mask", f"the output is {output.shape}: one channel for each class")
        findings.guess("output.mask", "classes", f"the class with the greatest of {channels} values counts")
    else:
        findings.know("kind", "image-to-tensors", f"the output is {output}")
