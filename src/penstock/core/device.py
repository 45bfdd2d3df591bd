"""A device as the processes speak of it: small, so that the parent of workers can hold it without a model runtime."""

from itertools import product
from typing import Literal

from msgspec import Struct

CPU_SIDES = tuple(range(64, 385, 32))
"""Tile sides of a CPU: fine steps, since a new shape costs it nothing and padding does; 384 keeps one run short."""


class Device(Struct, frozen=True, kw_only=True):
    """Where a worker runs its models, and what it may be shown: tiles with these sides, in batches of these sizes, both
    ascending. A GPU has few of both, each warmed up; a CPU pays nothing for a new shape.

    `streams` is how many batches run at a time; `threads` is how many one run may use when it is the only one;
    `ram_bytes` of the host are for the tasks in flight.
    The last ones are of interest to a GPU; `runners.providers` turns them into options of the runtime.
    """

    name: str
    kind: Literal["cpu", "cuda"]
    threads: int
    streams: int = 1
    ram_bytes: int = 2**31
    sides: tuple[int, ...]
    square: bool = True
    """Tiles are as wide as high; else every side goes with every other."""
    batches: tuple[int, ...]
    precision: Literal["auto", "fp32"] = "fp32"
    """`auto` is fp16 for the models that have such a file and pass the check against fp32 at load."""
    bound: bool = False
    """Results are written into memory of ours, page-locked for a GPU; for a device with one stream."""
    cuda_graphs: bool = False
    tensorrt: bool = False
    engine_cache_dir: str = ""
    memory_limit_bytes: int = 0
    """What the arena of one model may grow to; 0 is no limit."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """(height, width) of every tile there may be."""
        return tuple((s, s) for s in self.sides) if self.square else tuple(product(self.sides, self.sides))
