"""`model.toml`: what the tensors of an ONNX file mean.

Every member of it has a default that says the usual thing, so that a file need only say what is special. A member that
`penstock models add` could not know stands under `[guessed]` with the reason until an operator removes that line.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

SCHEMA = 1

Kind = Literal[
    "image-to-image",
    "image-to-mask",
    "image-to-labels",
    "image-to-scores",
    "image-to-embedding",
    "image-to-boxes",
    "image-to-tensors",
    "tensors",
]

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9._-]*(?!\n)$")]
Version = Annotated[str, Meta(min_length=1, max_length=32, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(?!\n)$")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}(?!\n)$")]
Pixels = Annotated[int, Meta(ge=1, le=16_384)]
Share = Annotated[float, Meta(ge=0, le=1)]


class DefinitionSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every section: frozen, keyword-only, and without unknown members."""


class InputSection(DefinitionSection, frozen=True):
    """How an image becomes the input tensor.

    A value of the tensor is `(scaled - mean) / std`, where `scaled` is the level of the pixel brought from 0..255 into
    `range`; `mean` and `std` have one number, or one for each channel, in the order of `colour`.

    - `name`: of the graph's input; empty is its only one.
    - `resize`: `stretch` to `size`; `crop` the centre of `size` after the shorter side was made `short_side` (default:
      the shorter side of `size`); `letterbox` into `size`, with `pad_value` around; `pad` to a multiple of
      `multiple_of` at the right and lower edge; `none` where the graph takes any size. Where the longer side is over
      `max_side`, `pad` and `none` make the image smaller first.
    - `size`: width and height in pixels.
    """

    name: str = ""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    channels: Literal[1, 3, 4] = 3
    colour: Literal["RGB", "BGR", "grey", "RGBA", "BGRA"] = "RGB"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    range: Literal["0-1", "-1-1", "0-255"] = "0-1"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: Literal["stretch", "crop", "letterbox", "pad", "none"] = "stretch"
    resample: Literal["nearest", "bilinear", "bicubic", "lanczos", "area"] = "bilinear"
    size: tuple[Pixels, Pixels] | None = None
    short_side: Pixels | None = None
    multiple_of: Pixels | None = None
    max_side: Pixels | None = None
    pad_value: Annotated[int, Meta(ge=0, le=255)] = 0
    pad_at: Literal["centre", "end"] = "centre"


class OutputSection(DefinitionSection, frozen=True):
    """What the output tensors mean.

    - `name`: of the graph's output that counts; empty is its first one.
    - `activation`: what is still to be computed, `fused` where the graph has it.
    - `labels`: names of the classes, or the name of a text file beside `model.toml` with one a line.
    - `scale`, `range`: of an image or mask.
    - `boxes`: `4+n` raw (centre, size, a score for each class), `5+n` with an objectness, `end2end` rows of left, top,
      right, bottom, score, class.
    - `transposed`: whether a raw output is (boxes, members) in place of (members, boxes).
    - `mask`: the answer is a grey `mask`, or the image `cut-out` of its background.
    """

    name: str = ""
    activation: Literal["none", "softmax", "sigmoid", "fused"] = "none"
    labels: tuple[str, ...] | str = ()
    top_k: Annotated[int, Meta(ge=1, le=1000)] = 5
    scale: Annotated[int, Meta(ge=1, le=16)] = 1
    range: Literal["0-1", "-1-1", "0-255"] = "0-1"
    boxes: Literal["4+n", "5+n", "end2end"] = "4+n"
    transposed: bool = False
    score: Share = 0.25
    iou: Share = 0.45
    most: Annotated[int, Meta(ge=1, le=10_000)] = 300
    normalised: bool = False
    format: Literal["json", "npy", "npz"] = "json"
    mask: Literal["mask", "cut-out"] = "mask"


class TilesSection(DefinitionSection, frozen=True):
    """Whether large images may be cut into tiles, and by how many pixels these overlap."""

    allowed: Literal["supported", "discouraged", "never"] = "never"
    overlap_px: Annotated[int, Meta(ge=0, le=1024)] = 32
    ladder: tuple[Pixels, ...] = ()


class RunSection(DefinitionSection, frozen=True):
    """How it runs. `memory_bytes` of the device are reserved for it, 0 means as measured when it was loaded.
    `keep_alive_s` after its last task it may be evicted; with `warm` it is loaded at the start, and evicted last."""

    precision: Literal["auto", "fp32"] = "auto"
    max_batch: Annotated[int, Meta(ge=0, le=256)] = 0
    memory_bytes: Annotated[int, Meta(ge=0)] = 0
    keep_alive_s: Annotated[float, Meta(ge=0, le=604_800)] = 300.0
    warm: bool = False


class CheckSection(DefinitionSection, frozen=True):
    """An example that is run at load: a model whose answer is farther from the stored one than `tolerance` is not
    served. `input` is a file beside `model.toml`, `answer` the stored answer."""

    input: str = ""
    answer: str = ""
    tolerance: Annotated[float, Meta(ge=0)] = 1e-3


class Definition(DefinitionSection, frozen=True):
    """A whole `model.toml`."""

    schema: Literal[1]
    kind: Kind
    file: str
    sha256: Sha256
    version: Version = "1"
    title: str = ""
    licence: str = ""
    source: str = ""
    input: InputSection = InputSection()
    output: OutputSection = OutputSection()
    tiles: TilesSection = TilesSection()
    run: RunSection = RunSection()
    params: dict[str, Any] = {}
    check: CheckSection = CheckSection()
    guessed: dict[str, str] = {}
