"""Which input of a graph takes an image, and what the graph says about it: axes, channels, size, dtype, scaling."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from penstock.models.inspection.findings import Findings
from penstock.models.inspection.graph import Dimension, Graph, GraphTensor, Node

CHANNELS = (1, 3, 4)
SMALLEST_SIDE = 8
"""An axis that is shorter is none of an image."""
SMALL_KERNELS = 0.03
"""Kernels of a first convolution with a smaller norm would see next to nothing of values of 0..1. Of 16 foreign files
those that take 0..255 have 0.004 and 0.026, all others 0.033 to 21."""
LINEAR = frozenset({"Cast", "Transpose", "Identity", "Div", "Mul", "Sub", "Add"})


class ImageInput(Struct, frozen=True, kw_only=True):
    """The input that takes an image. A side is None where it may vary."""

    port: GraphTensor
    layout: Literal["NCHW", "NHWC"]
    channels: int
    width: int | None
    height: int | None

    @property
    def fixed(self) -> bool:
        """Whether the graph takes only one size."""
        return self.width is not None and self.height is not None


def find_image(graph: Graph) -> ImageInput | None:
    """The only input, where that takes an image; None where it does not, or others must be given too."""
    return image_of(graph, graph.inputs[0]) if len(graph.inputs) == 1 else None


def image_of(graph: Graph, port: GraphTensor) -> ImageInput | None:
    """What this input takes, if that may be an image."""
    if port.dims is None or port.rank != 4 or port.dtype not in ("float32", "float16", "uint8"):
        return None
    if port.dims[0] not in (1, None) and not isinstance(port.dims[0], str):
        return None
    for layout, axis in (("NCHW", 1), ("NHWC", 3)):
        channels = _channels(graph, port, axis)
        sides = [d for n, d in enumerate(port.dims[1:], 1) if n != axis]
        if channels in CHANNELS and all(not isinstance(d, int) or d >= SMALLEST_SIDE for d in sides):
            height, width = (d if isinstance(d, int) else None for d in sides)
            return ImageInput(port=port, layout=layout, channels=channels, width=width, height=height)  # type: ignore[arg-type]
    return None


def _channels(graph: Graph, port: GraphTensor, axis: int) -> Dimension:
    """How many channels the input has, if they are on this axis: what the first convolution looks at, where the file
    does not say it."""
    dims = port.dims or ()
    if isinstance(dims[axis], int) or any(isinstance(dims[other], int) for other in (1, 3)):
        return dims[axis]
    first = next(graph.beginning(port.name), None)
    return first.kernel_channels if axis == 1 and first is not None and first.op == "Conv" else None


def describe_image(graph: Graph, image: ImageInput, findings: Findings) -> None:
    """Note what the graph says about its image, and guess its colour and its scale."""
    port = image.port
    findings.know("input.name", port.name, "the graph's only input")
    findings.know("input.layout", image.layout, f"the input is {port.shape}")
    findings.know("input.channels", image.channels, f"the input is {port.shape}")
    findings.know("input.dtype", port.dtype, f"the input is {port.shape}")
    if image.fixed:
        findings.know("input.size", (image.width, image.height), f"the input is {port.shape}")
    if image.channels == 1:
        findings.know("input.colour", "grey", "the input has one channel")
    _describe_scale(graph, image, findings)


def _describe_scale(graph: Graph, image: ImageInput, findings: Findings) -> None:
    if image.port.dtype == "uint8":
        findings.know("input.range", "0-255", "the input is of bytes")
        return
    nodes = list(graph.beginning(image.port.name))
    for node in nodes:
        if node.op not in LINEAR:
            break
        if (found := _scale_of(node)) is not None:
            findings.know("input.range", *found)
            return
    norm = first_kernel_norm(graph)
    if norm is not None and norm < SMALL_KERNELS:
        why = f"its first convolution has weights of {norm:.4f} only, and would hardly see values of 0..1"
        findings.guess("input.range", "0-255", why)


def _scale_of(node: Node) -> tuple[str, str] | None:
    """The range that the graph itself starts from, seen in its first arithmetic."""
    for numbers in node.constants.values():
        number = max(map(abs, numbers), default=0.0)
        if (node.op == "Div" and 100 <= number <= 256) or (node.op == "Mul" and 1 / 256 <= number <= 1 / 100):
            return "0-255", f"the graph itself scales it ({node.op} by {number:.4g})"
        if node.op in ("Sub", "Add") and number > 2:
            return "0-255", f"the graph itself takes {number:.4g} off"
        if node.op in ("Sub", "Add") and 0.1 < number < 1:
            return "0-1", f"the graph itself takes {number:.4g} off"
        if node.op in ("Div", "Mul") and number > 0:
            return None
    return None


def first_kernel_norm(graph: Graph) -> float | None:
    """The median norm of the kernels of the first convolution that has any."""
    return next((node.kernel_norm for node in graph.nodes if node.kernel_norm is not None), None)
