"""What the card of this process is, and which cards the installed ONNX Runtime has code for."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

from msgspec import Struct

from penstock.models.onnxruntime.cuda import CudaRuntime, cuda_runtime
from penstock.models.onnxruntime.libraries import loaded_library

MACHINE_CODE = ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (12, 0))
"""The compute capabilities that onnxruntime-gpu 1.31.1 has machine code for. It has no PTX, which a driver could
translate for others: Pascal and Volta (6.x, 7.0) and B200, GB200 and B300 (10.x) cannot run it."""

DRIVER_VERSION = Path("/proc/driver/nvidia/version")


class CardIdentity(Struct, frozen=True, kw_only=True):
    """The card of this process and the software that drives it. Versions are numbers with dots, empty where they are
    not known; `driver_serves` is the newest CUDA that the driver can serve."""

    name: str
    capability: str
    memory_bytes: int
    driver: str
    driver_serves: str
    cuda: str
    cudnn: str

    @property
    def has_code(self) -> bool:
        """Whether the installed ONNX Runtime can run on this card."""
        major, minor = map(int, self.capability.split("."))
        return has_code_for(major, minor)


def card_identity() -> CardIdentity | None:
    """The card of this process; None while the CUDA runtime is not loaded: a session must have been opened before.

    Raises RuntimeError in the words of CUDA.
    """
    cuda = cuda_runtime()
    return _identity(cuda) if cuda else None


def has_code_for(major: int, minor: int) -> bool:
    """Whether the installed ONNX Runtime has machine code that runs on a card of this compute capability: code for one
    runs on all later ones with the same first number."""
    return any(major == its_major and its_minor <= minor for its_major, its_minor in MACHINE_CODE)


def without_code() -> str:
    """One line about a card that the installed ONNX Runtime has no code for."""
    known = ", ".join(f"{major}.{minor}" for major, minor in MACHINE_CODE)
    try:
        card = card_identity()
    except RuntimeError:
        card = None
    which = f"this card, {card.name}, has compute capability {card.capability}" if card else "this card is another"
    return f"onnxruntime-gpu has code for compute capability {known}; {which}"


def _identity(cuda: CudaRuntime) -> CardIdentity:
    return CardIdentity(
        name=cuda.device_name(),
        capability=_dotted(cuda.compute_capability()),
        memory_bytes=cuda.memory().total,
        driver=driver_version(),
        driver_serves=_dotted(cuda.driver_version()),
        cuda=_dotted(cuda.runtime_version()),
        cudnn=cudnn_version(),
    )


def driver_version() -> str:
    """The version of the NVIDIA driver in the kernel; empty where the kernel does not say, as on WSL."""
    try:
        found = re.search(r"\b\d{3,}\.\d+(?:\.\d+)?\b", DRIVER_VERSION.read_text())
    except OSError:
        return ""
    return found[0] if found else ""


def cudnn_version() -> str:
    """The version of the cuDNN that this process has loaded; empty while it has none."""
    path = loaded_library("libcudnn.so")
    if path is None:
        return ""
    ask = ctypes.CDLL(path).cudnnGetVersion
    ask.restype = ctypes.c_size_t
    number = ask()  # 92801 is 9.28.1
    return f"{number // 10000}.{number // 100 % 100}.{number % 100}"


def _dotted(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
