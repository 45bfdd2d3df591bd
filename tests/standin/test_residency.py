"""Models that make room for one another on a card: loaded beside running work, and gone before the next one comes."""

from tests.standin.card import Card

PROGRAM = """
import asyncio
import json
import tempfile
from pathlib import Path

import numpy as np

from penstock.core.device import Device
from penstock.core.task import Priority
from penstock.models.onnxruntime.cuda import cuda_runtime
from penstock.settings import LimitSettings
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.residency.freed import memory_of
from penstock.worker.residency.loads import ModelLoads
from penstock.worker.residency.residents import Residents
from penstock.worker.residency.versions import LocalVersions
from penstock.worker.task_log import TaskLog
from penstock.worker.threads import Threads
from tests.support.declared import folder_of, model, node, png

device = Device(name="cuda:0", kind="cuda", threads=1, sides=(64,), batches=(1, 2), precision="auto")
tree = Path(tempfile.mkdtemp())
scores = 'kind = "image-to-scores"\\n[input]\\nsize = [16, 16]\\n[run]\\nmemory_bytes = 1000000\\n'
MB = 64
kernel = np.ones((MB * 250000 // 27, 3, 3, 3), np.float32)
steps = [node("Conv", "x k", "c"), node("GlobalAveragePool", "c", "p"), node("Flatten", "p", "y")]
for name in ("one", "two", "three"):
    network = model(steps, [("x", "float32", ["n", 3, 16, 16])], [("y", "float32", ["n", len(kernel)])], k=kernel)
    folder_of(tree / name, scores, network)
image = png(np.zeros((20, 20, 3), np.uint8))

async def main():
    with Threads(2, "tiles") as pool:
        scheduler = DeviceScheduler(device, pool)
        await scheduler.start([])
        residents = Residents()
        for version in LocalVersions(tree, LimitSettings()).look().versions.values():
            residents.offer(version.offer)
        loads = ModelLoads(residents, scheduler, memory_of(device), budget_bytes=2000000, limit_s=60)
        serving = asyncio.create_task(loads.serve())
        used = []

        async def run(name):
            use = residents.take(name) or await residents.wait(name, Priority.NORMAL, TaskLog())
            with residents.using(use) as runner:
                work = runner.prepare(image, runner.params())
                done = await scheduler.run(runner, work, priority=Priority.NORMAL, on_progress=lambda *_: None)
                assert len(done.work.outputs) == 1

        for turn in range(5):
            await asyncio.gather(*(run(f"{name}@1") for name in ("one", "two", "three")))
            card = cuda_runtime().memory()
            used.append(card.total - card.free)
        states = sorted(one.state for one in residents.residence().values())
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await scheduler.close()
        return {"states": states, "used": used, "broken": str(scheduler.broken)}

print(json.dumps(asyncio.run(main())))
"""


def test_models_make_room_for_one_another_on_a_card_and_leave_no_memory_behind(card: Card) -> None:
    ran = card.run(PROGRAM)

    assert ran["states"] == ["evicted", "ready", "ready"]
    assert ran["broken"] == "None"
    assert max(ran["used"][2:]) <= 1.05 * ran["used"][1], "two of 64 MB and no third, however often they come and go"
