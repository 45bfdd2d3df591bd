"""The short form of the scenarios that every change must pass, each in its own process."""

import subprocess
import sys

import pytest

from tests.chaos.parts import ROOT
from tests.chaos.scenarios import SHORT
from tests.support import redis_server

SEED = 1


@pytest.mark.chaos
@pytest.mark.skipif(redis_server.binary() is None, reason="no redis-server or valkey-server to kill")
@pytest.mark.parametrize("scenario", SHORT)
def test_the_bars_of_a_scenario_hold(scenario: str) -> None:
    command = [sys.executable, "-m", "tests.chaos", "--scenario", scenario, "--short", "--seed", str(SEED)]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=150, check=False)

    assert run.returncode == 0, run.stdout + run.stderr
