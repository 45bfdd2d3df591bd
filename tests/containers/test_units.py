"""The systemd units: systemd reads them, and what an API and a worker ask of the kernel is what they let through."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.containers.programs import DEPLOY, passes, program, run
from tests.support.fleet import Fleet
from tests.support.redis_server import RedisProcess

UNITS = {"api": 1.3, "worker": 2.0}
"""How exposed each is at most, as `systemd-analyze security` says it: 0 is nothing, 10 everything."""

IN_NEITHER = {"exit_group", "exit", "execve", "restart_syscall", "rt_sigreturn"}
"""Calls that no filter could refuse, or that systemd makes itself."""


@pytest.mark.parametrize("name", UNITS)
def test_systemd_accepts_the_unit(name: str, tmp_path: Path) -> None:
    text = (DEPLOY / f"penstock-{name}.service").read_text()
    unit = tmp_path / f"penstock-{name}.service"
    unit.write_text(text.replace("/opt/penstock/bin/penstock", shutil.which("true") or "/bin/true"))

    done = run(program("systemd-analyze"), "verify", str(unit))

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_no_more_exposed_than_the_page_says(name: str) -> None:
    file = str(DEPLOY / f"penstock-{name}.service")

    said = run(program("systemd-analyze"), "security", "--offline=yes", "--no-pager", file)

    (level,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", said.stdout)
    assert float(level) <= UNITS[name], said.stdout


@pytest.mark.at_length
@pytest.mark.parametrize("name", UNITS)
def test_a_service_makes_no_system_call_that_its_unit_refuses(
    name: str, own_redis: RedisProcess, tmp_path: Path
) -> None:
    log, traced = tmp_path / "calls", tmp_path / "traced"
    traced.write_text(f'#!/bin/sh\nexec {program("strace")} -D -f -qq -o {log} {sys.executable} "$@"\n')
    traced.chmod(0o755)
    pythons = dict.fromkeys(UNITS, sys.executable) | {name: str(traced)}
    with Fleet(own_redis.url, tmp_path, PENSTOCK_MODELS_SERVE="superres-x4,slow-v1") as fleet:
        api = fleet.api(python=pythons["api"])
        fleet.worker(python=pythons["worker"])
        api.until_workers(1)
        for format in ("png", "jpeg", "webp"):
            api.ended(api.submit(model="superres-x4", params={}, output={"format": format}))

    allowed = allowed_by(name)
    made = {*re.findall(r"^(?:\d+ +)?(\w+)\(", log.read_text(), re.MULTILINE)}
    assert "futex" in made
    assert made - allowed - IN_NEITHER == set()


def allowed_by(name: str) -> set[str]:
    """The system calls that the filters of a unit let through, read as systemd reads them."""
    allowed: set[str] = set()
    for line in (DEPLOY / f"penstock-{name}.service").read_text().splitlines():
        if line.startswith("SystemCallFilter="):
            words = line.removeprefix("SystemCallFilter=")
            calls = set().union(*(calls_of(word) for word in words.lstrip("~").split()))
            allowed = allowed - calls if words.startswith("~") else allowed | calls
    return allowed


def calls_of(word: str) -> set[str]:
    if not word.startswith("@"):
        return {word}
    listed = passes(program("systemd-analyze"), "syscall-filter", "--no-pager", word)
    words = [line.strip() for line in listed.splitlines()[1:] if line.strip() and not line.strip().startswith("#")]
    return set().union(*(calls_of(one) for one in words))
