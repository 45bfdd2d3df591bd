"""`model.toml`: what the tensors of an ONNX file mean.

Every member of it has a default that says the usual thing, so that a file need only say what is special. A member that
`penstock models add` could not know stands under `[guessed]` with the reason until an operator removes that line.
"""

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from penstock.pixels.resampling import Resample

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
FileName = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[\w][\w .+-]*(?!\n)$")]
"""A file beside `model.toml`: it has no folder in it."""

Pixels = Annotated[int, Meta(ge=1, le=16_384)]
Share = Annotated[float, Meta(ge=0, le=1)]
Dtype = Literal[
    "float32", "float16", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "bool"
]


class DefinitionSection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every section: frozen, keyword-only, and without unknown members."""


class InputSection(DefinitionSection, frozen=True):
    """How an image becomes the input tensor.

    A value of the tensor is `(scaled - mean) / std`, where `scaled` is the level of the pixel brought from 0..255 into
    `range`; `mean` and `std` have one number, or one for each channel, in the order of `colour`.

    - `name`: of the graph's input; empty is its only one.
    - `layout`: the order of the axes; without N the graph has no batch axis.
    - `resize`:
      `stretch` to `size`;
      `crop` the centre of `size` after the shorter side was made `short_side` (default: so that `size` is covered);
      `stretch-crop`: the same after both sides were made `short_side`;
      `letterbox` into `size`, with `pad_value` around;
      `square`: pad to a square at the right or lower edge, then stretch to `size`;
      `height`: to the height of `size`, and at the right padded to at least its width;
      `pad` to a multiple of `multiple_of` at the right and lower edge;
      `multiple`: stretch so that both sides are multiples of `multiple_of`;
      `none` where the graph takes any size.
      Where the longer side is over `max_side`, or the shorter one under `min_side`, `pad`, `multiple` and `none` resize
      the image first.
    - `resample`: the filters of Pillow, which look at all pixels that a smaller image covers (`area` is its box); or
      `linear`, OpenCV's INTER_LINEAR, which looks at the four nearest.
    - `size`: width and height in pixels; without it those of the graph.
    - `rounding`: of the sides of a letterboxed image.
    - `pad_value`: a level of 0..255; 127.5 is 0 in a tensor of -1..1.
    - `border_px`: pixels of `pad_value` on all four sides, which the graph takes away again.
    """

    name: str = ""
    layout: Literal["NCHW", "NHWC", "CHW", "HWC"] = "NCHW"
    channels: Literal[1, 3, 4] = 3
    colour: Literal["RGB", "BGR", "grey", "RGBA", "BGRA"] = "RGB"
    dtype: Literal["float32", "float16", "uint8"] = "float32"
    range: Literal["0-1", "-1-1", "0-255"] = "0-1"
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    resize: Literal["stretch", "crop", "stretch-crop", "letterbox", "square", "height", "pad", "multiple", "none"] = (
        "stretch"
    )
    resample: Resample = "bilinear"
    size: tuple[Pixels, Pixels] | None = None
    short_side: Pixels | None = None
    multiple_of: Pixels | None = None
    min_side: Pixels | None = None
    max_side: Pixels | None = None
    rounding: Literal["round", "floor"] = "round"
    pad_value: Annotated[float, Meta(ge=0, le=255)] = 0.0
    pad_at: Literal["centre", "end"] = "centre"
    border_px: Annotated[int, Meta(ge=0, le=1024)] = 0


class OutputSection(DefinitionSection, frozen=True):
    """What the output tensors mean.

    - `name`: of the graph's output that counts; empty is its first one.
    - `activation`: what is still to be computed, `fused` where the graph has it.
    - `labels`: names of the classes, or the name of a text file beside `model.toml` with one a line.
    - `scale`, `range`: of an image or mask. `min-max` takes the least value for 0 and the greatest for 1.
    - `may_be_flat`: whether an image of one colour may come of a photo, as a map of defects has where there are none;
      else that fails the task. By default it may where `scale` is 1.
    - `mask`: the answer is a grey `mask`, the image `cut-out` of its background, or `classes`: a grey image whose
      levels are the indices of the classes. With `threshold`, a mask has no greys. `resample` brings it to the size of
      the image.
    - `normalised`: the embedding is given the length 1. `pool`: of several vectors the `first`, or their `mean`.
    - `boxes`: `4+n` raw (box, a score for each class), `5+n` with an objectness; `yolox` the same on grids of
      `strides`; `end2end` rows of left, top, right, bottom, score, class; `separate` outputs, `name` for the boxes,
      `scores` for (boxes, classes) or one for each box, and `classes` for the index of the class of each box.
    - `transposed`: whether a raw output is (boxes, members) in place of (members, boxes).
    - `corners`: boxes are left, top, right, bottom; else `centre`, width, height.
    - `units`: of the boxes, `pixels` of the input tensor or `share` of its width and height.
    - `nms`: overlapping boxes are dropped for each `class`, among `all`, or `none` of them where the graph has done so.
    - `top_k`, `score`, `iou`, `most`, `threshold`, `format`: what counts unless a client sets the parameter of this
      name.
    """

    name: str = ""
    activation: Literal["none", "softmax", "sigmoid", "fused"] = "none"
    labels: tuple[str, ...] | FileName = ()
    top_k: Annotated[int, Meta(ge=1, le=1000)] = 5
    scale: Annotated[int, Meta(ge=1, le=16)] = 1
    range: Literal["0-1", "-1-1", "0-255", "min-max"] = "0-1"
    may_be_flat: bool | None = None
    mask: Literal["mask", "cut-out", "classes"] = "mask"
    threshold: Share | None = None
    resample: Resample = "bilinear"
    normalised: bool = False
    pool: Literal["none", "first", "mean"] = "none"
    format: Literal["json", "npy", "npz"] = "json"
    boxes: Literal["4+n", "5+n", "yolox", "end2end", "separate"] = "4+n"
    transposed: bool = False
    corners: Literal["centre", "corners"] = "centre"
    units: Literal["pixels", "share"] = "pixels"
    strides: tuple[Pixels, ...] = (8, 16, 32)
    scores: str = ""
    classes: str = ""
    nms: Literal["class", "all", "none"] = "class"
    score: Share = 0.25
    iou: Share = 0.45
    most: Annotated[int, Meta(ge=1, le=10_000)] = 300


class TensorSection(DefinitionSection, frozen=True):
    """One input of a graph of kind `tensors`. A dimension is a number, or a name where any number fits; the same name
    means the same number."""

    name: Annotated[str, Meta(min_length=1, max_length=200)]
    dtype: Dtype = "float32"
    shape: Annotated[
        tuple[Annotated[int, Meta(ge=0)] | Annotated[str, Meta(max_length=100)], ...], Meta(max_length=32)
    ] = ()


class TilesSection(DefinitionSection, frozen=True):
    """Whether large images may be cut into tiles, and by how many pixels these overlap. `ladder` are the sides of the
    tiles; empty are those of the device."""

    allowed: Literal["supported", "discouraged", "never"] = "never"
    overlap_px: Annotated[int, Meta(ge=0, le=1024)] = 32
    ladder: Annotated[tuple[Pixels, ...], Meta(max_length=64)] = ()


class RunSection(DefinitionSection, frozen=True):
    """How it runs. `memory_bytes` of the device are reserved for it, 0 means as measured when it was loaded.
    `keep_alive_s` after its last task it may be evicted; with `warm` it is loaded at the start, and evicted last. A
    file whose heavy operators have no code for a GPU is refused there unless `cpu_nodes` is true."""

    precision: Literal["auto", "fp32"] = "auto"
    max_batch: Annotated[int, Meta(ge=0, le=256)] = 0
    memory_bytes: Annotated[int, Meta(ge=0)] = 0
    keep_alive_s: Annotated[float, Meta(ge=0, le=604_800)] = 300.0
    warm: bool = False
    cpu_nodes: bool = False


class HalfSection(DefinitionSection, frozen=True):
    """A file of the same network with fp16 arithmetic. A GPU runs it if its outputs differ from those of `file` by at
    most `tolerance`, a share of the greatest value."""

    file: FileName | Literal[""] = ""
    sha256: Sha256 | Literal[""] = ""
    tolerance: Annotated[float, Meta(ge=0)] = 0.01


class CheckSection(DefinitionSection, frozen=True):
    """An example that is run at load: a model whose answer is farther from the stored one than `tolerance` is not
    served. `input` is a file beside `model.toml`, `answer` the stored answer: a JSON file with the data, or the file of
    the result. Numbers may differ by `tolerance` times the greater of 1 and their size; the pixels of images by that
    share of 255 on average."""

    input: FileName | Literal[""] = ""
    answer: FileName | Literal[""] = ""
    params: dict[str, Any] = {}
    tolerance: Annotated[float, Meta(ge=0)] = 1e-3


class Definition(DefinitionSection, frozen=True):
    """A whole `model.toml`.

    `data` has the digest of each file with external data of `file`. `params` is a JSON Schema: clients may set the
    parameters of the kind that are among its `properties`, within what these say; all of them where it has none. Those
    of every image-to-image, `post` and `compare`, are there in any case.
    """

    schema: Literal[1]
    kind: Kind
    file: FileName
    sha256: Sha256
    version: Version = "1"
    title: Annotated[str, Meta(max_length=200)] = ""
    licence: Annotated[str, Meta(max_length=200)] = ""
    source: Annotated[str, Meta(max_length=500)] = ""
    data: dict[FileName, Sha256] = {}
    input: InputSection = InputSection()
    tensors: Annotated[tuple[TensorSection, ...], Meta(max_length=64)] = ()
    output: OutputSection = OutputSection()
    tiles: TilesSection = TilesSection()
    run: RunSection = RunSection()
    half: HalfSection = HalfSection()
    params: dict[str, Any] = {}
    check: CheckSection = CheckSection()
    guessed: dict[str, str] = {}
