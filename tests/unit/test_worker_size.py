"""How large a worker is: its slots and its threads, by its device and its share of the cores of the host."""

import pytest
from msgspec.structs import replace

from penstock.core.device import Device
from penstock.worker.running import SLOT_BYTES, slots_for
from penstock.worker.threads import codec_threads, tile_threads

CPU = Device(name="cpu", kind="cpu", threads=4, streams=4, sides=(64,), batches=(1,))
GPU = Device(name="cuda:0", kind="cuda", threads=1, sides=(512,), batches=(1, 2, 4, 8), ram_bytes=2**37)


def cores(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(count)), raising=False)


def test_a_cpu_has_eight_slots_whatever_the_machine() -> None:
    assert [slots_for(replace(CPU, cores=n)) for n in (1, 4, 64)] == [8, 8, 8]


@pytest.mark.parametrize(("cores", "slots"), [(1, 25), (4, 28), (16, 40), (24, 48), (192, 56)])
def test_a_gpu_has_slots_for_three_batches_and_for_each_thread_that_encodes(cores: int, slots: int) -> None:
    assert slots_for(replace(GPU, cores=cores)) == slots


def test_a_gpu_has_no_more_slots_than_photos_fit_into_memory_but_eight_at_least() -> None:
    assert slots_for(replace(GPU, cores=16, ram_bytes=20 * SLOT_BYTES)) == 20
    assert slots_for(replace(GPU, cores=16, ram_bytes=SLOT_BYTES)) == 8


@pytest.mark.parametrize(
    ("cores", "codecs", "tiles"), [(1, 1, 2), (4, 4, 2), (16, 16, 4), (24, 24, 6), (32, 32, 8), (192, 32, 8)]
)
def test_threads_of_a_gpu_worker_are_those_of_its_share_of_the_cores(cores: int, codecs: int, tiles: int) -> None:
    device = replace(GPU, cores=cores)

    assert (codec_threads(device), tile_threads(device)) == (codecs, tiles)


def test_without_a_share_the_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    cores(monkeypatch, 12)

    assert [codec_threads(device) for device in (GPU, CPU)] == [12, 6]
