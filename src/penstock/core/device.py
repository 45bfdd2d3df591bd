"""The description of a device. It is light, so that the parent of the workers can use it without a model runtime."""

import math
from collections.abc import Sequence
from itertools import product
from typing import Literal

from msgspec import Struct

CPU_TILE_PX = 384
"""The longest side of a tile on a CPU, where tiles have whatever shape suits an image, since a new shape costs nothing.
A longer one would keep a run from ending soon."""

CPU_SIDES = (64,)
"""Sides of the square that a CPU computes first, to show that its results are right."""

GPU_SHAPES = (
    *((128, 128), (256, 256), (416, 416), (544, 544), (736, 736), (864, 864)),
    *((384, 512), (480, 640), (576, 768), (512, 384), (640, 480), (768, 576)),
)
"""Tiles of a GPU, (height, width), each warmed up: as few as compute at most 1.35 pixels for each that an image of 0.1
to 10 MP has. `python -m tools.ladder` finds them."""

TENSORRT_SIDES = (128, 192, 256, 384, 512)
"""Sides of square tiles of a GPU with TensorRT, whose engines take the memory of the largest batch of the longest
sides."""

TILE_VALUES = 512 * 512 * 3
"""Values of a tile of which a GPU can hold as many as its largest batch has."""


class Device(Struct, frozen=True, kw_only=True):
    """The device on which a worker runs its models.

    It runs tiles of the shapes `rectangles`, or else with the sides `sides`, in device batches of the sizes `batches`,
    ascending. A GPU has few of both, each warmed up at the start; a CPU pays nothing for a new shape, and runs tiles of
    any with sides up to `any_side_to` pixels. `streams` device batches run at a time, each with up to `threads`
    threads; `ram_bytes` of the host's memory are for the tasks in flight.

    `models.onnxruntime.providers` turns the fields from `precision` on into options of the runtime.
    """

    name: str
    kind: Literal["cpu", "cuda"]
    threads: int
    streams: int = 1
    cores: int = 0
    """Cores that this worker may use: those of the host, divided among its workers. 0 means all that the process may
    use."""
    ram_bytes: int = 2**31
    rectangles: tuple[tuple[int, int], ...] = ()
    """(height, width) of each tile; where there are none, `sides` and `square` say them."""
    sides: tuple[int, ...] = ()
    any_side_to: int = 0
    """The longest side of tiles of any shape; 0 where tiles have only the shapes of the device."""
    square: bool = True
    """True: tiles are as wide as high. False: every height goes with every width."""
    batches: tuple[int, ...]
    precision: Literal["auto", "fp32"] = "fp32"
    """`auto` uses fp16 for models that have an fp16 file and pass the comparison with fp32 when they are loaded."""
    pinned_bytes: int = 2**31
    """How many bytes of the host's memory may be page-locked for a GPU; they are not part of `ram_bytes`."""
    cuda_graphs: bool = False
    tensorrt: bool = False
    checks_warm_up: bool = False
    """The results of the warm-up are compared with stored answers, so that no shape is served that comes out wrong."""
    cuda_options: str = "none"
    """`auto` measures which options of the CUDA provider are fastest; else their names, or `none`."""
    cache_dir: str = ""
    """Directory for what is measured once on a machine."""
    engine_cache_dir: str = ""
    memory_limit_bytes: int = 0
    """The most that the arena of this worker may hold; 0 leaves it to what CUDA says of the card."""
    share: float = 1.0
    """The part of the memory of the card that this worker may take: 1/n where n workers run on one card."""

    @property
    def in_flight(self) -> int:
        """How many device batches threads may be given at a time. A GPU computes one while the results of another are
        copied."""
        return 2 if self.kind == "cuda" else self.streams

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The (height, width) of every tile that the device may run."""
        if self.rectangles:
            return self.rectangles
        return tuple((s, s) for s in self.sides) if self.square else tuple(product(self.sides, self.sides))

    def batches_of(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The sizes of the device batches of tiles of this shape, ascending."""
        return batches_of(self.batches, shape)


def batches_of(sizes: tuple[int, ...], shape: Sequence[int]) -> tuple[int, ...]:
    """Those sizes with which a batch has at most as many values as the largest batch of 512 x 512 pixels; at least the
    smallest."""
    most = sizes[-1] * TILE_VALUES
    return tuple(size for size in sizes if size * math.prod(shape) <= most) or sizes[:1]
