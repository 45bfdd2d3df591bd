"""How soon the card is free for others after a task that runs on it was canceled."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from penstock.core.device import Device
from penstock.core.task import Priority
from penstock.gpu_checks.measures.product import (
    UPSCALER,
    BatchSample,
    canvas_work,
    of_one_shape,
    on_scheduler,
    run_once,
)
from penstock.worker.batcher.stop_patience import STUCK_RUNS, STUCK_S

SIDE = 512
PATIENCE_S = 20.0


def stop(device: Device) -> Iterator[dict[str, Any]]:
    """Yield how long a canceled task stays on the device, and whether the device went on afterwards."""
    figures: dict[str, Any] = {}
    asyncio.run(_cancel(of_one_shape(device, SIDE), figures))
    yield figures


async def _cancel(device: Device, figures: dict[str, Any]) -> None:
    async with on_scheduler(device, UPSCALER) as (scheduler, (runner,)):
        sample = BatchSample.of(runner, "general", SIDE, device)
        batch_s = run_once(sample).wall_s
        figures |= {"batch_ms": batch_s * 1000, "stuck_s": max(STUCK_S, STUCK_RUNS * batch_s)}
        begun = asyncio.Event()
        work = canvas_work(runner, sample.side_px * 4)
        running = asyncio.create_task(
            scheduler.run(runner, work, priority=Priority.NORMAL, on_progress=lambda *_: None, on_begin=begun.set)
        )
        await begun.wait()
        await asyncio.sleep(batch_s / 4)
        canceled = time.perf_counter()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(running, PATIENCE_S)
        cancel_s = time.perf_counter() - canceled
        figures |= {"cancel_ms": cancel_s * 1000, "cancel_excess_ms": (cancel_s - 2 * batch_s) * 1000}
        figures["device_is_lost"] = scheduler.broken is not None
