"""What the stand-ins count and which faults they have: the ground under all other tests here."""

from pathlib import Path

import pytest

from tests.standin.card import Card, ProgramFailed

OPEN = """
import json
from penstock.core.device import Device
from penstock.models.onnxruntime.session import Session, half, manifest
from tests.standin.batches import blank
from tests.standin.counts import counts, difference

device = Device(name="cuda:0", kind="cuda", threads=1, sides=(128, 192), batches=(1, 2),
                memory_limit_bytes=8 * 10**9)
session = Session(half(manifest()["superres-x4", "general"]), device)

def run(batch, side):
    given, before = blank(session.file, batch, side, side), counts()
    results = session.run(given)
    return difference(before) | {"given": given.nbytes, "results": sum(result.nbytes for result in results)}
"""


def test_a_run_is_counted(card: Card) -> None:
    first, _, again = card.run(OPEN + "print(json.dumps([run(1, 128), run(1, 128), run(1, 128)]))")

    assert first["plans"] >= 34
    assert again["plans"] == 0
    assert again["tensor_core_runs"] + again["other_runs"] == 34
    assert again["bytes_up"] == again["given"]
    assert again["bytes_down"] == again["results"]
    assert again["mallocs"] == 0


@pytest.mark.parametrize(
    ("faults", "text"),
    [
        ({"getcount": 100}, "100: no CUDA-capable device is detected"),
        ({"launch": 209}, "NoKernelImageForDevice"),
        ({"sticky": 700, "sticky_from": 60}, "illegal memory access"),
        ({"noplan": "half"}, "CUDNN_FE failure"),
        ({"mem": 0.001}, "CUDA failure 2: out of memory"),
        ({"without": ("libcudnn.so.9",)}, "cuDNN"),
        ({"without": ("libcuda.so.1",)}, "libcuda.so.1"),
    ],
    ids=str,
)
def test_a_fault_reaches_the_runtime(card: Card, faults: dict[str, object], text: str) -> None:
    with pytest.raises(ProgramFailed, match=text):
        card.run(OPEN + "print(json.dumps(run(1, 128)))", **faults)  # type: ignore[arg-type]


LOCKS = """
import ctypes, json, mmap
import numpy as np
from penstock.models.onnxruntime.cuda import CudaRuntime
from tests.standin.counts import CUDART, counts

cuda = CudaRuntime(CUDART)
memory = mmap.mmap(-1, 1 << 20)
view = (ctypes.c_char * len(memory)).from_buffer(memory)
address = ctypes.addressof(view)
"""


def test_a_page_lock_is_counted_until_it_is_undone(card: Card) -> None:
    locked, free = card.run(LOCKS + "cuda.lock_pages(address, 1 << 20); a = counts()\n"
                                    "cuda.unlock_pages(address); print(json.dumps([a, counts()]))")  # fmt: skip

    assert (locked["locks"], locked["locked_bytes"]) == (1, 1 << 20)
    assert (free["unlocks"], free["locked_bytes"], free["lock_faults"]) == (1, 0, 0)


def test_memory_that_is_given_back_while_it_is_locked_is_seen(card: Card) -> None:
    seen = card.run(LOCKS + "cuda.lock_pages(address, 1 << 20); del view; memory.close(); print(json.dumps(counts()))")

    assert seen["unmapped_locks"] == 1


def test_memory_that_is_locked_twice_is_a_fault(card: Card) -> None:
    twice = "print(json.dumps([cuda.lock_pages(address, 1 << 20), cuda.lock_pages(address, 1 << 20), counts()]))"
    first, second, seen = card.run(LOCKS + twice)

    assert (first, second, seen["lock_faults"]) == (0, 712, 1)


def test_page_locks_are_refused_from_the_nth(card: Card) -> None:
    asked = "print(json.dumps([cuda.lock_pages(address + n * 4096, 4096) for n in range(4)]))"

    assert card.run(LOCKS + asked, reg=3) == [0, 0, 2, 2]


def test_a_copy_beside_a_launch_of_another_thread_is_seen(card: Card) -> None:
    copy = """
from threading import Thread
import ctypes
runtime = ctypes.CDLL(CUDART)
here = (ctypes.c_char * (1 << 20))()
done = []
def launch():
    while not done:
        runtime.cudaLaunchKernel()
thread = Thread(target=launch)
thread.start()
cuda.copy_to_host(address, ctypes.addressof(here), 1 << 20, cuda.new_stream())
done.append(1)
thread.join()
alone = counts()
cuda.copy_to_host(address, ctypes.addressof(here), 1 << 20, cuda.new_stream())
print(json.dumps([alone["overlapping_copies"], counts()["overlapping_copies"]]))
"""
    assert card.run(LOCKS + copy, copy_us=100_000) == [1, 1]


def test_a_card_is_lost_when_its_name_stands_in_the_file(card: Card, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    lost.write_text("GPU-bbbb\n")
    ask = "import ctypes\nprint(ctypes.CDLL('libcudart.so.13').cudaSetDevice(0))"

    def status(uuid: str) -> int:
        return int(card.run(ask, lostfile=lost, environment={"CUDA_VISIBLE_DEVICES": uuid}))

    assert [status("GPU-aaaa"), status("GPU-bbbb")] == [0, 100]
