"""The cards: how fast each computes and copies, and how a worker on it is described.

Rates are those of `general` in fp16, estimated from data sheets (times or divided by two): nobody has measured them.
"""

from msgspec import Struct
from msgspec.structs import replace

from penstock.core.device import Device
from penstock.settings import WorkerSettings
from penstock.worker.devices.nvidia_smi import Gpu
from penstock.worker.devices.placements import _on_gpu

GB = 10**9
PAGEABLE_SHARE = 0.15
"""A copy from or to memory that is not page-locked goes through a buffer of the driver: 4 to 8 ms for 25 MB."""


class Card(Struct, frozen=True, kw_only=True):
    """One kind of host: `count` cards that each compute `mpx_per_s` megapixels of tiles a second.

    A run takes `launch_s` besides: 73 nodes, each launched by the driver. `pcie_bytes_per_s` is the rate of a
    page-locked copy in one direction. `cores` and `ram_bytes` are what the host has for one card.
    """

    name: str
    mpx_per_s: float
    launch_s: float
    pcie_bytes_per_s: float
    memory_bytes: int
    cores: int
    ram_bytes: int
    count: int = 1

    def compute_s(self, pixels: int) -> float:
        """Seconds that a batch with so many pixels of input computes."""
        return self.launch_s + pixels / (self.mpx_per_s * 1e6)

    def copy_s(self, size: int, *, page_locked: bool = True) -> float:
        """Seconds of a copy of so many bytes, up or down."""
        return size / (self.pcie_bytes_per_s * (1.0 if page_locked else PAGEABLE_SHARE))


CARDS = {
    card.name: card
    for card in (
        Card(name="T4", mpx_per_s=5, launch_s=8e-4, pcie_bytes_per_s=12 * GB,
             memory_bytes=16 * GB, cores=4, ram_bytes=8 * GB),
        Card(name="L4", mpx_per_s=6, launch_s=6e-4, pcie_bytes_per_s=25 * GB,
             memory_bytes=24 * GB, cores=4, ram_bytes=8 * GB),
        Card(name="A10", mpx_per_s=9, launch_s=6e-4, pcie_bytes_per_s=25 * GB,
             memory_bytes=24 * GB, cores=4, ram_bytes=8 * GB),
        Card(name="4090", mpx_per_s=22, launch_s=5e-4, pcie_bytes_per_s=25 * GB,
             memory_bytes=24 * GB, cores=8, ram_bytes=16 * GB),
        Card(name="H100", mpx_per_s=55, launch_s=4e-4, pcie_bytes_per_s=50 * GB,
             memory_bytes=80 * GB, cores=16, ram_bytes=24 * GB),
        Card(name="8xH100", mpx_per_s=55, launch_s=4e-4, pcie_bytes_per_s=50 * GB,
             memory_bytes=80 * GB, cores=16, ram_bytes=24 * GB, count=8),
    )
}  # fmt: skip


def device_of(card: Card, number: int, settings: WorkerSettings) -> Device:
    """The device that the parent of the workers makes of such a card."""
    gpu = Gpu(number=str(number), uuid=f"GPU-{number}", memory_bytes=card.memory_bytes)
    device = _on_gpu(gpu, "", 1.0, settings).device  # `placements` asks nvidia-smi, which knows no such card
    # No driver is here that could lock pages, and nothing is computed that could be right.
    return replace(device, cores=card.cores, ram_bytes=card.ram_bytes, pinned_bytes=0, checks_warm_up=False)
