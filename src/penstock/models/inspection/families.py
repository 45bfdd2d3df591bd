"""Conventions of networks that many people use: guesses for what no file says, each with the reason."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from penstock.models.inspection.findings import Findings
from penstock.models.inspection.graph import Graph
from penstock.models.inspection.image_input import ImageInput

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of ImageNet's photos, in the order RGB: torchvision's, and by it most networks'."""


class Candidate(Struct, frozen=True, kw_only=True):
    """A graph, its image, and the kind that was found for it."""

    graph: Graph
    image: ImageInput
    kind: str

    @property
    def paddle(self) -> bool:
        """Whether it is from PaddlePaddle's exporter, which names outputs after its operators."""
        name = self.graph.outputs[0].name
        return self.graph.producer == "PaddlePaddle" or name.startswith(
            ("save_infer_model/scale_0", "fetch_name_0", "softmax_", "sigmoid_")
        )


class Family(Struct, frozen=True, kw_only=True):
    """Networks that are fed alike. `usual` are their members, where the file says nothing else."""

    name: str
    fits: Callable[[Candidate], bool]
    usual: dict[str, Any]


def guess_family(graph: Graph, image: ImageInput, findings: Findings) -> None:
    """Guess what the first fitting family has in common."""
    seen = Candidate(graph=graph, image=image, kind=findings.get("kind"))
    family = next((family for family in FAMILIES if family.fits(seen)), None)
    if family is None:
        return
    usual = family.usual
    if findings.get("input.range", usual["input.range"]) != usual["input.range"]:
        # Mean and deviation go with the range: where that is another, they are too.
        usual = {path: value for path, value in usual.items() if path not in ("input.mean", "input.std")}
    findings.guess_all(usual, f"usual for {family.name}; the file does not say it")
    if findings.get("input.resize") == "height" and image.height is not None:
        findings.guess("input.size", (1, image.height), f"the input is {image.port.shape}: of any width")


TO_VECTOR = ("image-to-labels", "image-to-embedding", "image-to-scores")


def _paddle_line(seen: Candidate) -> bool:
    """Whether it reads text lines: any width, and a row of probabilities for each place."""
    return seen.paddle and seen.image.width is None and seen.graph.outputs[0].rank == 3


def _paddle_angle(seen: Candidate) -> bool:
    """Whether it tells lines from those that are upside down."""
    return seen.paddle and seen.image.width is None and (seen.graph.outputs[0].dims or ())[1:] == (2,)


def _paddle_text(seen: Candidate) -> bool:
    """Whether it finds text: a map of probabilities as large as the image."""
    return seen.paddle and not seen.image.fixed and seen.kind == "image-to-mask"


def _paddle_classifier(seen: Candidate) -> bool:
    return seen.paddle and seen.image.fixed and seen.kind == "image-to-labels"


def _grey_line(seen: Candidate) -> bool:
    """Whether it reads lines or captchas in grey: a height of its own, and any width."""
    return seen.image.channels == 1 and seen.image.height is not None and seen.image.width is None


def _keras(seen: Candidate) -> bool:
    return seen.image.layout == "NHWC" and seen.kind in TO_VECTOR


def _torch_classifier(seen: Candidate) -> bool:
    image = seen.image
    return image.layout == "NCHW" and image.channels == 3 and image.fixed and seen.kind in TO_VECTOR


def _cut_out(seen: Candidate) -> bool:
    return seen.image.channels == 3 and seen.image.fixed and seen.kind == "image-to-mask"


ZERO_TENSOR = 127.5
LINE = {
    "input.resize": "height", "input.resample": "linear", "input.pad_value": ZERO_TENSOR, "input.range": "-1-1",
    "input.colour": "BGR",
}  # fmt: skip
IMAGENET = {"input.range": "0-1", "input.mean": MEAN, "input.std": STD}

FAMILIES = (
    Family(name="PaddleOCR's recognisers of text lines", fits=_paddle_line, usual=LINE | {"input.size": (320, 48)}),
    Family(name="PaddleOCR's classifiers of angles", fits=_paddle_angle, usual=LINE | {"input.size": (192, 48)}),
    Family(
        name="PaddleOCR's detectors of text",
        fits=_paddle_text,
        usual=IMAGENET
        | {
            "input.colour": "BGR", "input.resize": "multiple", "input.multiple_of": 32, "input.min_side": 64,
            "input.max_side": 4000, "input.resample": "linear", "output.resample": "linear",
        },
    ),
    Family(
        name="PaddleClas' classifiers",
        fits=_paddle_classifier,
        usual=IMAGENET
        | {"input.colour": "RGB", "input.resize": "crop", "input.short_side": 256, "input.resample": "bilinear"},
    ),
    Family(
        name="recognisers of grey text lines, as ddddocr has them",
        fits=_grey_line,
        usual={"input.resize": "height", "input.resample": "lanczos", "input.range": "-1-1"},
    ),
    Family(
        name="networks that were exported from Keras",
        fits=_keras,
        usual={"input.resize": "stretch", "input.range": "0-1", "input.resample": "bilinear"},
    ),
    Family(
        name="classifiers that were exported from PyTorch",
        fits=_torch_classifier,
        usual=IMAGENET | {"input.resize": "crop", "input.resample": "bilinear"},
    ),
    Family(
        name="networks that cut out what stands in front",
        fits=_cut_out,
        usual=IMAGENET | {"input.resize": "stretch", "input.resample": "bilinear", "output.resample": "bilinear"},
    ),
)  # fmt: skip
"""The first that fits counts."""


def guess_the_usual(image: ImageInput, findings: Findings) -> None:
    """Guess what is still open, by what most networks do."""
    if "input.colour" not in findings:
        usual = {1: "grey", 3: "RGB", 4: "RGBA"}[image.channels]
        findings.guess("input.colour", usual, "usual; BGR is as common where OpenCV was used")
    findings.guess("input.range", "0-1", "usual; no file says whether it takes 0..1, -1..1 or 0..255, mean and std")
    if findings.get("kind") == "image-to-image":
        findings.guess("output.range", findings.get("input.range"), "the same as the input's")
    if "input.size" in findings:
        findings.guess("input.resize", "stretch", "the size is fixed; some crop the centre, or pad, in place of it")
    elif findings.get("input.multiple_of", 1) > 1:
        findings.guess("input.resize", "pad", "the graph takes any size that is a multiple")
    else:
        findings.guess("input.resize", "none", "the graph takes any size")
    if findings.get("input.resize") not in ("none", "pad"):
        findings.guess("input.resample", "bilinear", "usual; another filter changes the answer a little")
