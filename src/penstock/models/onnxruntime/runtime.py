"""The only importer of ONNX Runtime: one device, no silent fall-back, no telemetry."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from mmap import mmap
from types import MappingProxyType
from typing import Any

from penstock.errors import ConfigurationError
from penstock.models.onnxruntime.providers import CPU, CUDA, Setup

HEAVY = re.compile(r".*(Conv|Gemm|MatMul|Attention)\w*|GRU|LSTM|RNN|Resize|Upsample|BiasGelu|EmbedLayerNormalization")
"""Operators that take nearly all of the time of a network: on a GPU they must not run on the CPU without a word."""


@cache
def runtime() -> Any:
    """The module `onnxruntime`, imported once, with its telemetry off: since 1.29 it uploads by default.

    Raises ConfigurationError when it is not installed, or installed twice.
    """
    installed = [name for name in ("onnxruntime", "onnxruntime-gpu") if _is_installed(name)]
    if len(installed) != 1:
        what = "both onnxruntime and onnxruntime-gpu are" if installed else "no ONNX Runtime is"
        raise ConfigurationError(f"{what} installed; install penstock-server[cpu] or penstock-server[gpu], not both")
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    if installed == ["onnxruntime-gpu"]:
        onnxruntime.preload_dlls()
    onnxruntime.create_and_register_allocator(_arena_on(onnxruntime, "Cpu"), None)
    return onnxruntime


def runtime_version() -> str:
    """The version of the ONNX Runtime in use."""
    return str(runtime().__version__)


def register_cuda_arena(limit_bytes: int) -> None:
    """Give all sessions that are opened later with `session.use_env_allocators` one arena for the memory of the card.
    Once in a process. Raises what the runtime raises."""
    ort = runtime()
    # Power-of-two arenas waste up to half the memory: 1 is kSameAsRequested.
    config = ort.OrtArenaCfg({"max_mem": limit_bytes, "arena_extend_strategy": 1})
    ort.create_and_register_allocator_v2(CUDA, _arena_on(ort, "Cuda"), {"device_id": "0"}, config)


External = Mapping[str, bytes | mmap]
"""The contents of the files with external data, by the names that the graph has for them."""


def open_session(data: bytes, setup: Setup, *, threads: int, external: External = MappingProxyType({})) -> Any:
    """Open a session of the runtime for the contents of a model file, on the first provider of `setup` and no other.
    Of `external` it takes copies; it opens no file.

    Raises what the runtime raises; ConfigurationError when it would use another provider.
    """
    ort = runtime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # A plan of memory for each input shape would be kept for ever.
    options.enable_mem_pattern = False
    for name, value in setup.entries.items():
        options.add_session_config_entry(name, value)
    if external:
        contents = list(external.values())
        options.add_external_initializers_from_files_in_memory(list(external), contents, list(map(len, contents)))
    session = ort.InferenceSession(data, options, providers=list(setup.providers), enable_fallback=0)
    _check_provider(session, setup)
    return session


def _check_provider(session: Any, setup: Setup) -> None:
    first = setup.providers[0][0]
    parts = session.get_provider_graph_assignment_info()
    busy = {part.ep_name for part in parts}
    if session.get_providers()[0] != first or (busy and first not in busy):
        raise ConfigurationError(f"{first} was asked for, but ONNX Runtime would use {sorted(busy)}")
    if setup.cpu_nodes is None:
        on_cpu = {node.op_type for part in parts if part.ep_name == CPU for node in part.get_nodes()}
        if heavy := sorted(filter(HEAVY.fullmatch, on_cpu)):
            raise ConfigurationError(
                f"{first} was asked for, but it has no code for {', '.join(heavy)} of this file, which would run on "
                "the CPU; run.cpu_nodes = true in model.toml allows that"
            )


def _arena_on(ort: Any, device: str) -> Any:
    return ort.OrtMemoryInfo(device, ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
