"""What the stand-ins counted in this process since its start: to be called by a program that `card.run` runs."""

import ctypes
from functools import cache

CUDART, CUDNN = "libcudart.so.13", "libcudnn.so.9"

COUNTERS = {
    CUDART: [
        *("arena_bytes", "arena_peak", "mallocs"),
        *("locks", "unlocks", "refused_locks", "lock_faults", "locked_bytes", "locked_peak"),
        *("copies", "copies_up", "copies_down", "bytes_up", "bytes_down", "locked_bytes_up", "locked_bytes_down"),
        *("overlapping_copies", "launches", "streams", "graph_captures", "graph_launches"),
    ],
    CUDNN: ["plans", "searches", "tensor_core_runs", "other_runs", "added_biases"],
}
"""By library:

- `arena_bytes`, `arena_peak`, `mallocs`: memory of the card in use now, and at most; allocations.
- `locks`, `unlocks`, `refused_locks`, `locked_bytes`, `locked_peak`: page-locks of the host's memory.
- `lock_faults`: memory that was locked twice, which happens when it was given back while it was locked, or unlocked
  without having been locked.
- `copies…`, `bytes…`: copies by direction, up to the card and down to the host; `locked_bytes…` are those from and to
  locked memory.
- `overlapping_copies`: copies down of 64 KiB or more during which another thread launched something.
- `launches`, `streams`, `graph_captures`, `graph_launches`: kernels and convolutions; streams and graphs made.
- `plans`, `searches`: plans of convolutions built, and searches for them.
- `tensor_core_runs`, `other_runs`: convolutions run by a plan with tensor cores, or without.
- `added_biases`: biases that were added in a pass of their own.
"""


def counts() -> dict[str, int]:
    """All counters by name, and `unmapped_locks`: locked ranges whose memory is gone."""
    values = {name: _counter(library, name).value for library, names in COUNTERS.items() for name in names}
    unmapped = ctypes.CDLL(CUDART).standin_unmapped_locks
    unmapped.restype = ctypes.c_long
    return values | {"unmapped_locks": unmapped()}


def difference(before: dict[str, int], after: dict[str, int] | None = None) -> dict[str, int]:
    """What was added since `before`."""
    return {name: value - before[name] for name, value in (after or counts()).items()}


def _counter(library: str, name: str) -> ctypes.c_long:
    loaded = _library(library)
    return ctypes.c_long.in_dll(loaded, f"standin_{name}") if loaded else ctypes.c_long()


@cache
def _library(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:  # a test took it away
        return None
