"""The programs that read what is deployed; where one is missing, the test that needs it is skipped and says so."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"


def run(*argv: str, timeout_s: float = 60, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, **options)


def passes(*argv: str, timeout_s: float = 60) -> str:
    done = run(*argv, timeout_s=timeout_s)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def program(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


def compose() -> list[str]:
    """Compose 2, else 1; neither needs an engine to read files."""
    if shutil.which("docker") and run("docker", "compose", "version").returncode == 0:
        return ["docker", "compose"]
    return [program("docker-compose")]
