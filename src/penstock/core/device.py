"""The description of a device. It is light, so that the parent of the workers can use it without a model runtime."""

from itertools import product
from typing import Literal

from msgspec import Struct

CPU_SIDES = tuple(range(64, 385, 32))
"""Sides of tiles on a CPU. Small steps save padding, and a new shape costs a CPU nothing; 384 keeps one run short."""


class Device(Struct, frozen=True, kw_only=True):
    """The device on which a worker runs its models.

    It runs tiles with the sides `sides` in device batches of the sizes `batches`, both ascending. A GPU has few of
    both, each warmed up at the start; a CPU pays nothing for a new shape. `streams` device batches run at a time, each
    with up to `threads` threads; `ram_bytes` of the host's memory are for the tasks in flight.

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
    sides: tuple[int, ...]
    square: bool = True
    """True: tiles are as wide as high. False: every height goes with every width."""
    batches: tuple[int, ...]
    precision: Literal["auto", "fp32"] = "fp32"
    """`auto` uses fp16 for models that have an fp16 file and pass the comparison with fp32 when they are loaded."""
    bound: bool = False
    """The runtime writes results into memory that is allocated once, page-locked for a GPU; only with one stream."""
    pinned_bytes: int = 2**31
    """How many bytes of the host's memory may be page-locked for a GPU; they are not part of `ram_bytes`."""
    cuda_graphs: bool = False
    tensorrt: bool = False
    engine_cache_dir: str = ""
    memory_limit_bytes: int = 0
    """The most that the arena of one model may hold; 0 means no limit."""
    share: float = 1.0
    """The part of the memory of the card that this worker may take: 1/n where n workers run on one card."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The (height, width) of every tile that the device may run."""
        return tuple((s, s) for s in self.sides) if self.square else tuple(product(self.sides, self.sides))
