"""What this process may use, and what the kernel did, as both versions of control groups say it."""

from pathlib import Path

import pytest

from penstock.worker.devices import cgroup, machine

V2 = {"proc/self/cgroup": "0::/system.slice/penstock.service\n"}
V1 = {"proc/self/cgroup": "4:memory:/docker/ab\n2:cpu,cpuacct:/docker/ab\n0::/\n"}
"""In a container, whose mount is its own group: the names are those that the host gave."""
GROUP = "sys/fs/cgroup/system.slice/penstock.service"


def files(root: Path, texts: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a machine have these files."""
    monkeypatch.setattr(cgroup, "ROOT", root)
    for name, text in texts.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param({}, None, id="no control groups"),
        pytest.param(V2 | {f"{GROUP}/memory.max": "max\n"}, None, id="no limit"),
        pytest.param(V2 | {f"{GROUP}/memory.max": "600\n"}, 600, id="a unit of systemd"),
        pytest.param(
            V2 | {f"{GROUP}/memory.max": "600\n", "sys/fs/cgroup/system.slice/memory.max": "500\n"},
            500,
            id="that of a group around it",
        ),
        pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "700\n"}, 700, id="a container"),
        pytest.param(V1 | {"sys/fs/cgroup/memory/memory.limit_in_bytes": "800\n"}, 800, id="a container, version 1"),
    ],
)
def test_the_memory_of_a_process_is_bounded_by_its_group(
    texts: dict[str, str], expected: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, texts, monkeypatch)

    assert cgroup.memory_limit() == expected
    assert expected is None or machine.memory() == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param({}, 192, id="no control groups"),
        pytest.param(V2 | {f"{GROUP}/cpu.max": "max 100000\n"}, 192, id="no limit"),
        pytest.param(V2 | {f"{GROUP}/cpu.max": "250000 100000\n"}, 3, id="a part of a core is one"),
        pytest.param(V2 | {f"{GROUP}/cpu.max": "1000 100000\n"}, 1, id="less than one is one"),
        pytest.param(
            V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            1,
            id="version 1",
        ),
        pytest.param(
            V1 | {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"},
            192,
            id="version 1 without a limit",
        ),
    ],
)
def test_a_process_has_no_more_cores_than_its_group_gets_time_of(
    texts: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(192)))
    files(tmp_path, texts, monkeypatch)

    assert machine.cores() == expected


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        pytest.param({}, 0, id="nobody counts"),
        pytest.param({"proc/vmstat": "nr_free_pages 9\noom_kill 4\n"}, 4, id="the machine"),
        pytest.param(
            V2 | {f"{GROUP}/memory.events": "max 7\noom 2\noom_kill 3\n", "proc/vmstat": "oom_kill 4\n"},
            3,
            id="the group alone",
        ),
        pytest.param(
            V1 | {"sys/fs/cgroup/memory/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 5\n"},
            5,
            id="version 1",
        ),
    ],
)
def test_it_is_known_how_often_the_kernel_has_killed_for_want_of_memory(
    texts: dict[str, str], expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path, texts, monkeypatch)

    assert cgroup.oom_kills() == expected


def test_this_machine_answers() -> None:
    assert machine.memory() > 0
    assert machine.cores() > 0
    assert cgroup.oom_kills() >= 0
