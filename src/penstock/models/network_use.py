"""How the networks of superres-x4 are run."""

from __future__ import annotations

from msgspec import Struct

from penstock.core.device import Device
from penstock.models.tiling import Tiling, tiling_on


class NetworkUse(Struct, frozen=True, kw_only=True):
    """How the network of a variant is run.

    It takes `effort` times as long for a pixel as `general` does. Its tiles have sides of up to `longest_cpu_px` on a
    CPU and `longest_gpu_px` on a GPU, or as long as the device's are. A CPU needs `working_bytes` of memory for each
    pixel of a tile that it computes.
    """

    effort: float = 1.0
    longest_cpu_px: int | None = None
    longest_gpu_px: int | None = None
    working_bytes: int = 0
    at_start: bool = True

    def tiling_on(self, device: Device, overlap: int) -> Tiling:
        """How images are cut for the network on a device."""
        usual = tiling_on(device, overlap)
        longest = self.longest_cpu_px if device.kind == "cpu" else self.longest_gpu_px
        return usual if longest is None else usual.up_to(longest)


NETWORKS: dict[str, NetworkUse] = {
    "general": NetworkUse(),
    "clean": NetworkUse(),
    # Measured on a CPU: 7.9 s instead of 0.53 s for a tile of 128 x 128, and 253 MB. Tiles that overlap by 32 px differ
    # from the whole image by at most 4 levels of 255, one value in 400 by more than one; 16 px leave 14 levels.
    "best": NetworkUse(effort=15.0, longest_cpu_px=192, longest_gpu_px=256, working_bytes=16384, at_start=False),
}
