"""A child that dies before it is ready, under the real supervisor."""

import asyncio
import os
import sys
from pathlib import Path

import pytest

from penstock.local import deaths
from penstock.local.children import Child, Launch, Patience
from penstock.local.supervisor import Supervisor
from penstock.worker.heartbeat import EXIT_DEVICE_LOST

STARTS = f"""
import sys, time
open(sys.argv[1], "a").write("started ")
time.sleep(0.2)
sys.exit({EXIT_DEVICE_LOST})
"""


async def test_a_child_that_loads_longer_than_a_steady_life_and_is_never_ready_is_given_up(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(deaths, "STEADY_S", 0.05)
    log = tmp_path / "starts"
    launch = Launch(argv=[sys.executable, "-S", "-c", STARTS, str(log)], environment=dict(os.environ))
    supervisor = Supervisor()
    patience = Patience(start_s=60, silence_s=60)
    supervisor.add(Child(name="worker", rank=0, launch=lambda: launch, grace_s=1, reports=patience))

    async with asyncio.timeout(60):
        await supervisor.until_stopped()
    await supervisor.close()

    assert log.read_text().split() == ["started"] * deaths.MAX_EARLY_DEATHS
    assert supervisor.exit_status == EXIT_DEVICE_LOST
