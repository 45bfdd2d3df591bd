"""How many threads a worker has on a host with many cores and many cards."""

import time
from pathlib import Path

from penstock.core.device import Device
from penstock.worker.devices import GPU_VARIABLES
from penstock.worker.threads import codec_threads, tile_threads
from tests.standin.card import Card
from tests.support.nvidia_smi import NvidiaSmi
from tests.support.processes import Process
from tests.support.redis_server import RedisProcess

MOST_OF_A_HOST, WORKERS = 1500, 8
"""The container of `deploy/compose.gpu.yaml` allows 2,560 for 8 workers."""

LARGE = Device(name="cuda:0", kind="cuda", threads=1, sides=(), batches=(), cores=192 // WORKERS)
POOLS = 2 * codec_threads(LARGE) + tile_threads(LARGE) + 3
"""The threads that decode, encode, accept tiles, run and stack batches. They start when they are needed."""

WITHIN_S = 60.0


def test_eight_workers_on_a_large_host_stay_below_1500_threads(
    card: Card, own_redis: RedisProcess, tmp_path: Path
) -> None:
    tool = NvidiaSmi(tmp_path / "bin")
    tool.lists("GPU-aaaa")
    environ = {
        "REDIS_URL": own_redis.url,
        "PENSTOCK_STORAGE_DIRECTORY": str(tmp_path / "objects"),
        "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
        "PENSTOCK_MODELS_SERVE": "image-scoring-v1",
        "PENSTOCK_WORKER_MAX_BATCH": "1",
    }
    variables = card.variables(answers=True) | tool.environment() | environ
    process = Process(["worker"], variables, tmp_path / "log", python=card.python)
    try:
        give_up = time.monotonic() + WITHIN_S
        while "worker ready" not in (log := (tmp_path / "log").read_text()):
            assert time.monotonic() < give_up, log
            time.sleep(0.1)
        worker = Path(f"/proc/{process.child('worker-process')}")
        threads = len(list((worker / "task").iterdir()))
        variables_of_worker = (worker / "environ").read_bytes().split(b"\0")
    finally:
        process.stop()

    assert WORKERS * (threads + POOLS) <= MOST_OF_A_HOST
    assert {f"{name}={value}".encode() for name, value in GPU_VARIABLES.items()} <= set(variables_of_worker)
