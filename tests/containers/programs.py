"""The programs that read what is deployed; where one is missing, the test that needs it is skipped and says so."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def run(*argv: str, timeout_s: float = 60, cwd: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a command, with further variables in its environment."""
    environment = os.environ | variables
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, cwd=cwd, env=environment)


def passes(*argv: str, timeout_s: float = 60, cwd: Path = ROOT, **variables: str) -> str:
    """What a command prints that must not fail."""
    done = run(*argv, timeout_s=timeout_s, cwd=cwd, **variables)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def program(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


VERSIONS = ("2", "1")
"""Of Compose; neither needs an engine to read files."""


def compose() -> list[str]:
    """The command of the newest Compose that is installed."""
    return next(filter(None, map(compose_of, VERSIONS)), None) or pytest.skip("Compose is not installed")


def compose_of(version: str) -> list[str] | None:
    """The command of this version of Compose; None where it is not installed."""
    words = {"2": ["docker", "compose"], "1": ["docker-compose"]}[version]
    if not shutil.which(words[0]):
        return None
    told = run(*words, "version", "--short")
    return words if told.returncode == 0 and told.stdout.lstrip("v").startswith(version) else None
