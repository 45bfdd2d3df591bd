"""A process of its own for files of other origin: whatever they do to the parser or the runtime, the caller goes on.

It reads one request as JSON from standard input, and writes one reply. `python -m penstock.models.inspection.child`.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from penstock.errors import ConfigurationError
from penstock.models.declared.document import InvalidModel

MEMORY_BYTES = 16 * 1024**3
"""Address space of the process, beside what the files take: a graph that computes a larger array while it is loaded is
stopped."""
COPIES = 4
"""How many times the weights may be in memory: as read, as parsed, as loaded, and packed for the processor."""
LIMIT_S = 300.0

Reply = TypeVar("Reply", bound=Struct)


class ChildCall(Struct, frozen=True, kw_only=True):
    """What the process shall do, by name, and with which request."""

    act: str
    request: dict[str, Any]
    memory_bytes: int


class ChildRefusal(Struct, frozen=True, kw_only=True):
    """The line that says why it did not."""

    refused: str


def in_child(act: str, request: Struct, reply: type[Reply], *, folder: Path, limit_s: float = LIMIT_S) -> Reply:
    """Do this in a process of its own, and return its reply. Its memory depends on the files of this folder.

    Raises InvalidModel with one line: what the process says, or how it ended.
    """
    memory_bytes = MEMORY_BYTES + COPIES * sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
    try:
        call = msgspec.json.encode(ChildCall(act=act, request=msgspec.to_builtins(request), memory_bytes=memory_bytes))
    except UnicodeEncodeError as error:
        raise InvalidModel(f"{str(folder)!r} or the file in it has a name that is not UTF-8") from error
    command = [sys.executable, "-m", "penstock.models.inspection.child"]
    try:
        ended = subprocess.run(command, input=call, capture_output=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise InvalidModel(f"the file was given up after {limit_s:g} s") from error
    if ended.returncode:
        raise InvalidModel(f"the file makes its reader {_end_of(ended)}; it is damaged, or made for that")
    answer = msgspec.json.decode(ended.stdout, type=dict[str, Any])
    if "refused" in answer:
        raise InvalidModel(answer["refused"])
    return msgspec.convert(answer, reply)


def _end_of(ended: subprocess.CompletedProcess[bytes]) -> str:
    if ended.returncode < 0:
        return f"crash ({signal.Signals(-ended.returncode).name})"
    lines = ended.stderr.decode("utf-8", "replace").split("\n")
    return f"fail ({next((line.strip()[:200] for line in reversed(lines) if line.strip()), ended.returncode)})"


def serve(acts: dict[str, Callable[[dict[str, Any]], Struct]]) -> None:
    """Do what standard input asks for, within limits, and write the reply to standard output."""
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # native libraries print to standard output
    call = msgspec.json.decode(sys.stdin.buffer.read(), type=ChildCall)
    _limit(call.memory_bytes)
    try:
        reply: Struct = acts[call.act](call.request)
    except ConfigurationError as error:
        reply = ChildRefusal(refused=str(error))
    except ModuleNotFoundError as error:
        reply = ChildRefusal(
            refused=f"the package {error.name} is not installed; penstock-server[cpu] and [gpu] have it"
        )
    except (MemoryError, RecursionError):
        reply = ChildRefusal(
            refused=f"the file needs more than {MEMORY_BYTES // 1024**3} GiB of memory, or is nested too deeply"
        )
    answer.write(msgspec.json.encode(reply))
    answer.close()


def _limit(memory_bytes: int) -> None:
    """Limit the address space, where the machine does not limit it more, and leave no core behind."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    limit = memory_bytes if most == resource.RLIM_INFINITY else min(memory_bytes, most)
    resource.setrlimit(resource.RLIMIT_AS, (limit, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _draft(request: dict[str, Any]) -> Struct:
    from penstock.models.inspection.draft import DraftRequest, draft

    return draft(msgspec.convert(request, DraftRequest))


def _verify(request: dict[str, Any]) -> Struct:
    from penstock.models.inspection.verify import VerifyRequest, verify

    return verify(msgspec.convert(request, VerifyRequest))


if __name__ == "__main__":
    serve({"draft": _draft, "verify": _verify})
