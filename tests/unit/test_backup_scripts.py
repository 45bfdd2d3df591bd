"""The scripts that save and restore the containers, beside an engine that only answers: what they do before they touch
data. tests/containers/test_stack.py runs them on a real one."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

DEPLOY = Path(__file__).parents[2] / "deploy"

ENGINE = """#!/bin/sh
echo "$*" >> "$0.log"
case "$*" in
  *" ps -aq "*) echo "$CONTAINER" ;;
  run*) exit "$RUN_STATUS" ;;
esac
"""


@pytest.fixture
def installation(tmp_path: Path) -> Path:
    folder = tmp_path / "an installation"
    (folder / "deploy/secrets").mkdir(parents=True)
    for name in ("backup.sh", "restore.sh", "init.sh", ".env.example"):
        shutil.copy(DEPLOY / name, folder / "deploy" / name)
    (folder / "deploy/secrets/api_keys").write_text("me:that-of-today\n")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(ENGINE)
    (tmp_path / "bin/docker").chmod(0o755)
    return folder


def ran(installation: Path, script: str, *arguments: str, container: str = "c1", status: int = 0) -> list[str]:
    """What a script that fails has asked the engine for."""
    programs = installation.parent / "bin"
    environ = {"PATH": f"{programs}:{os.environ['PATH']}", "CONTAINER": container, "RUN_STATUS": str(status)}
    done = subprocess.run(
        ["/bin/sh", f"deploy/{script}", *arguments], cwd=installation, env=environ, capture_output=True, timeout=60
    )
    assert done.returncode != 0
    log = programs / "docker.log"
    return log.read_text().splitlines() if log.exists() else []


def test_a_restore_over_data_leaves_the_secrets_as_they_are(installation: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    (backup / "secrets").mkdir(parents=True)
    (backup / "secrets/api_keys").write_text("me:that-of-the-backup\n")
    subprocess.run(["tar", "-C", backup, "-cf", backup / "secrets.tar", "secrets"], check=True)
    for name in ("redis.tar", "objects.tar"):
        (backup / name).touch()

    asked = ran(installation, "restore.sh", str(backup), status=1)

    assert [line for line in asked if line.startswith("run ")], "the engine is asked whether there is data"
    assert (installation / "deploy/secrets/api_keys").read_text() == "me:that-of-today\n"


def test_a_backup_into_a_folder_that_is_there_stops_nothing_and_closes_nothing(installation: Path) -> None:
    there = installation.parent / "there"
    there.mkdir(mode=0o755)

    asked = ran(installation, "backup.sh", "../there")

    assert not [line for line in asked if "stop" in line]
    assert there.stat().st_mode & 0o777 == 0o755


def test_a_backup_of_no_installation_stops_nothing_and_makes_no_folder(installation: Path) -> None:
    asked = ran(installation, "backup.sh", "../new", container="")

    assert not [line for line in asked if "stop" in line]
    assert not (installation.parent / "new").exists()


def test_a_backup_that_fails_starts_everything_again(installation: Path) -> None:
    asked = ran(installation, "backup.sh", "../new", status=1)

    assert asked[-1] == "compose start"
    assert (installation.parent / "new").stat().st_mode & 0o777 == 0o700
