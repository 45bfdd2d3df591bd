"""When a child is started again, and when it is given up."""

import sys
from pathlib import Path

import pytest

from penstock.local.children import Child, ChildProcess, Launch
from penstock.local.deaths import EXIT_CONFIGURATION, MAX_EARLY_DEATHS, STEADY_S, Deaths, Life
from penstock.worker.devices import cgroup
from penstock.worker.heartbeat import EXIT_DEVICE_LOST

KILLED = -9
NEVER_READY = Life(status=EXIT_DEVICE_LOST, was_ready=False, steady_s=0.0)
KILLED_IN_LOAD = Life(status=KILLED, was_ready=False, steady_s=0.0)
STEADY = Life(status=KILLED, was_ready=True, steady_s=STEADY_S + 1)


def starts(*lives: Life) -> int:
    """After how many of these lives the child is given up; 0 if it never is."""
    deaths = Deaths()
    for number, life in enumerate(lives, 1):
        deaths.count(life)
        if deaths.hopeless(life):
            return number
    return 0


def early(status: int) -> Life:
    """A life that was ready for a moment."""
    return Life(status=status, was_ready=True, steady_s=STEADY_S / 2)


@pytest.mark.parametrize(
    ("lives", "given_up_after"),
    [
        pytest.param([NEVER_READY] * 9, MAX_EARLY_DEATHS, id="never ready, however long each load took"),
        pytest.param([KILLED_IN_LOAD] * 9, MAX_EARLY_DEATHS, id="killed while it loads, each time"),
        pytest.param([STEADY, *[NEVER_READY] * 9], MAX_EARLY_DEATHS + 1, id="its device is lost again and again"),
        pytest.param([early(EXIT_DEVICE_LOST)] * 6, 0, id="two tasks that break the device three times each"),
        pytest.param([early(EXIT_DEVICE_LOST)] * 20, 2 * MAX_EARLY_DEATHS, id="lost in its first moments, each time"),
        pytest.param([*[NEVER_READY, NEVER_READY, STEADY] * 5], 0, id="lost now and then"),
        pytest.param([early(KILLED)] * 30, 0, id="was ready, and is killed again and again"),
        pytest.param([STEADY, Life(status=EXIT_CONFIGURATION, was_ready=False, steady_s=0.0)], 2, id="a wrong setting"),
    ],
)
def test_a_child_is_given_up_when_another_start_would_end_the_same_way(lives: list[Life], given_up_after: int) -> None:
    assert starts(*lives) == given_up_after


def test_the_wait_grows_with_each_early_death_and_is_none_after_a_steady_run() -> None:
    deaths = Deaths()
    waits = []
    for _ in range(9):
        deaths.count(NEVER_READY)
        waits.append(deaths.backoff_s())
    deaths.count(STEADY)

    assert all(0.2 * 2**n * 0.5 <= wait <= 30 for n, wait in enumerate(waits[:7], 1))
    assert waits[0] < waits[2] < waits[4] < waits[6]
    assert deaths.backoff_s() == 0


DIES = (
    "import os, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2]); os.kill(os.getpid(), int(sys.argv[3]))"
)


@pytest.mark.parametrize(
    ("kills", "number", "reason"),
    [
        pytest.param(3, 9, "memory ran out and the kernel killed it (limit 600 MB)", id="the kernel"),
        pytest.param(2, 9, "", id="somebody else"),
        pytest.param(3, 15, "", id="another signal, while the kernel killed a decoder"),
    ],
)
async def test_a_death_for_want_of_memory_is_called_so(
    kills: int, number: int, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel counts those that it kills in each control group."""
    group, own = tmp_path / "sys/fs/cgroup", tmp_path / "proc/self/cgroup"
    for folder in (group, own.parent):
        folder.mkdir(parents=True)
    own.write_text("0::/\n")
    (group / "memory.max").write_text("600000000\n")
    (group / "memory.events").write_text("oom_kill 2\n")
    monkeypatch.setattr(cgroup, "ROOT", tmp_path)
    argv = [sys.executable, "-c", DIES, str(group / "memory.events"), f"oom_kill {kills}\n", str(number)]
    child = Child(name="child", rank=1, launch=lambda: Launch(argv=argv, environment={}), grace_s=1)

    life = await (await ChildProcess.start(child, None)).lived()

    assert (life.status, life.killed_because) == (-number, reason)
