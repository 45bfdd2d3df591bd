"""The GPUs as `nvidia-smi` lists them. The parent of the workers asks it, since it must not load CUDA itself.

Its exit statuses are those of NVML (`nvmlReturn_t`); a status other than 0 may come with rows for the GPUs that are
well. A GPU that is lost has a row whose cells are the words of an error, or a line in place of its row.
"""

import re
import shutil
import subprocess
import time
from collections.abc import Container, Iterable, Iterator
from contextlib import suppress

from loguru import logger
from msgspec import Struct
from msgspec.structs import replace

PATIENCE_S = 60.0
"""Longest wait for the tool: without persistence mode it takes 25 s and more on hosts with 8 GPUs."""

WSL_FOLDER = "/usr/lib/wsl/lib"
"""Where Windows puts the tool; the PATH of a service lacks it."""

QUERY = ("--query-gpu=index,uuid,memory.total,mig.mode.current", "--format=csv,noheader,nounits")

ADVICE = {
    4: "this user may not ask the driver",
    9: "the driver is not loaded: install it, or reboot after an update",
    12: "the library of the driver is not found: a container needs NVIDIA_DRIVER_CAPABILITIES=compute,utility",
    14: "the infoROM of a GPU is damaged",
    15: "a GPU has fallen off the bus: look for Xid in the output of dmesg, then reset it or reboot",
    16: "a GPU has to be reset (nvidia-smi --gpu-reset), or the host rebooted",
    18: "the driver was updated while it was loaded: reboot",
}
"""What a person can do about an exit status."""

NO_INSTANCES = "MIG is on and it has no instances: make some (nvidia-smi mig -cgi), or turn MIG off (nvidia-smi -mig 0)"

MOST_WORDS = 300
"""Characters of the tool's own words in a message."""

SILENT_S, DIES_WITHIN_S = 5.0, 1.0
"""When the log says that the tool is slow, and how long the end of one that was killed is waited for."""

_UUID = re.compile(r"(?:GPU|MIG)-\S+")
_GPU_LINE = re.compile(r"^GPU (\d+): .*\(UUID: (GPU-[\w-]+)\)", re.MULTILINE)
_LOST_LINE = re.compile(
    r"^Unable to determine the device handle for (?:GPU ?)?([0-9A-F:.]+\d): *(.*\S)", re.MULTILINE | re.IGNORECASE
)
_MIG_LINE = re.compile(r"^\s+MIG .*Device\s+(\d+): \(UUID: (MIG-[^)]+)\)", re.MULTILINE)


class Gpu(Struct, frozen=True, kw_only=True):
    """A GPU, or one MIG instance of it."""

    number: str
    """The number of the GPU in the driver's tools; its address on the bus where it is lost and has no row."""
    uuid: str = ""
    """Empty if the GPU cannot be used."""
    memory_bytes: int = 0
    """0 where the driver does not say, as for a MIG instance."""
    instance: str = ""
    """The number of the MIG instance on its GPU."""
    trouble: str = ""
    """Why the GPU cannot be used."""


MISSING = (
    f"nvidia-smi is neither on the PATH nor in {WSL_FOLDER}: install the driver, or run the container with the NVIDIA "
    "Container Toolkit"
)


class Listing(Struct, frozen=True, kw_only=True):
    """What the tool answers. `problem` says why there may be more GPUs than are listed; empty when all is well."""

    gpus: tuple[Gpu, ...] = ()
    problem: str = ""


def list_gpus(patience_s: float = PATIENCE_S) -> Listing:
    """Ask `nvidia-smi` for the GPUs, within so many seconds."""
    tool = find_tool()
    if tool is None:
        return Listing(problem=MISSING)
    give_up = time.monotonic() + patience_s
    text, problem = ask(tool, QUERY, patience_s)
    rows = list(_rows(text))
    gpus, split = [_gpu(*row) for row in rows], {row[0] for row in rows if row[3] == "Enabled"}
    lost = [Gpu(number=address, trouble=why) for address, why in _LOST_LINE.findall(text)]
    if split or (problem and text and not any(gpu.uuid for gpu in gpus)):
        # A lost GPU may keep the tool from answering the first question for the others, but not this one.
        listed, _ = ask(tool, ("-L",), max(1.0, give_up - time.monotonic()))
        gpus = list(_with_instances(gpus or _named(listed), listed, split))
    return Listing(gpus=(*gpus, *lost), problem=problem or ("" if gpus else _says("lists no GPU", text)))


def find_tool() -> str | None:
    """The path of `nvidia-smi`; None where there is none."""
    return shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=WSL_FOLDER)


def ask(tool: str, arguments: tuple[str, ...], patience_s: float = PATIENCE_S) -> tuple[str, str]:
    """What the tool prints, and what is wrong with that; empty when all is well."""
    try:
        asked = subprocess.Popen(
            [tool, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    except OSError as error:
        return "", f"{tool} cannot be run: {error.strerror}"
    text = _output(asked, patience_s)
    if text is None:
        advice = "turn persistence mode on (nvidia-smi -pm 1), and look for Xid in the output of dmesg"
        return "", f"nvidia-smi gives no answer within {patience_s:g} s: {advice}"
    if not asked.returncode:
        return text, ""
    advice = ADVICE.get(asked.returncode, "")
    return text, _says(f"ends with status {asked.returncode}", text) + (f": {advice}" if advice else "")


def _output(asked: subprocess.Popen[str], patience_s: float) -> str | None:
    """What the tool prints until its end; None when it does not end in time."""
    with suppress(subprocess.TimeoutExpired):
        return asked.communicate(timeout=min(SILENT_S, patience_s))[0]
    logger.bind(within_s=patience_s).warning("nvidia-smi has not answered yet")
    with suppress(subprocess.TimeoutExpired):
        return asked.communicate(timeout=max(0.0, patience_s - SILENT_S))[0]
    asked.kill()
    asked.stdout.close()  # type: ignore[union-attr]
    with suppress(subprocess.TimeoutExpired):  # a process that hangs in the driver does not even die
        asked.wait(DIES_WITHIN_S)
    return None


def _says(what: str, text: str) -> str:
    words = " ".join(line.strip() for line in text.splitlines() if not _is_row(line)).strip()
    return f"nvidia-smi {what}" + (f' and says "{words[:MOST_WORDS]}"' if words else "")


def _rows(text: str) -> Iterator[list[str]]:
    for line in filter(_is_row, text.splitlines()):
        yield [cell.strip() for cell in line.split(",")]


def _is_row(line: str) -> bool:
    number, *rest = line.split(",")
    return number.strip().isdigit() and len(rest) == 3


def _gpu(number: str, uuid: str, memory: str, _: str) -> Gpu:
    if not _UUID.fullmatch(uuid):
        return Gpu(number=number, trouble=uuid.strip("[]"))
    # The memory is in MiB, or words such as "[N/A]".
    return Gpu(number=number, uuid=uuid, memory_bytes=int(memory) * 1024**2 if memory.isdigit() else 0)


def _named(listed: str) -> list[Gpu]:
    return [Gpu(number=number, uuid=uuid) for number, uuid in _GPU_LINE.findall(listed)]


def _with_instances(gpus: Iterable[Gpu], listed: str, split: Container[str]) -> Iterator[Gpu]:
    """Each GPU, or in its place its MIG instances; `split` are the numbers of those where MIG is on."""
    instances: dict[str, list[tuple[str, str]]] = {}
    for part in re.split(r"^(?=GPU \d+:)", listed, flags=re.MULTILINE):
        if head := _GPU_LINE.match(part):
            instances[head[1]] = _MIG_LINE.findall(part)
    for gpu in gpus:
        if own := instances.get(gpu.number):
            yield from (Gpu(number=gpu.number, instance=instance, uuid=uuid) for instance, uuid in own)
        else:
            yield replace(gpu, uuid="", trouble=NO_INSTANCES) if gpu.number in split else gpu
