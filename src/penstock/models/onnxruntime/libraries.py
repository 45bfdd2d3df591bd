"""The shared libraries that ONNX Runtime loads for a GPU: where they are, and which one is missing."""

from __future__ import annotations

import ctypes
import re
from importlib.util import find_spec
from pathlib import Path

PROVIDER = "capi/libonnxruntime_providers_cuda.so"
"""The library with the CUDA provider, in the folder of the package `onnxruntime`."""

_ADVICE = (
    ("libcuda.so", "the NVIDIA driver is not visible here; in a container, start it with the GPUs (`--gpus all`)"),
    ("libcudnn", "install cuDNN 9 for CUDA 13, which is part of penstock-server[gpu]"),
    ("lib", "install the libraries of CUDA 13, which are part of penstock-server[gpu]"),
)
"""The beginning of a library's name -> what it means that it is missing. The first row that fits counts."""

_MISSING = re.compile(r"(lib[\w.-]+\.so[\w.]*): cannot open shared object file")

_loaded: dict[str, str] = {}


def loaded_library(name: str) -> str | None:
    """The path of a library that this process has loaded, such as `libcudart.so`, in any version; None while it has
    not."""
    if name not in _loaded and (path := _mapped_path(name)):
        _loaded[name] = path
    return _loaded.get(name)


def missing_library() -> str:
    """One line about the library for lack of which ONNX Runtime could not load its CUDA provider; empty where that can
    be loaded. Only after it has been tried: it needs what the runtime loads first."""
    package = find_spec("onnxruntime")
    provider = Path(package.origin or "").parent / PROVIDER if package else None
    if provider is None or not provider.exists():
        return ""
    try:
        ctypes.CDLL(str(provider))
    except OSError as error:
        return said_plainly(str(error)) or str(error)
    return ""


def said_plainly(text: str) -> str:
    """What the message of a loader means, in one line; empty where no library is missing."""
    missing = _MISSING.search(text)
    if not missing:
        return ""
    name = missing[1]
    return f"{name} is missing: {next(advice for begins, advice in _ADVICE if name.startswith(begins))}"


def _mapped_path(name: str) -> str | None:
    try:
        found = re.search(rf"\S*/{re.escape(name)}\S*", Path("/proc/self/maps").read_text())
    except OSError:  # not Linux
        return None
    return found[0] if found else None
