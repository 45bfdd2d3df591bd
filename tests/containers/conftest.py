"""A checkout for Compose, and the container engine of this machine."""

import shutil
from pathlib import Path

import pytest

from tests.containers.programs import ROOT, passes, program, run

BASE_IMAGE = "python:3.12-slim-bookworm"


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what Compose reads and builds from, with the secrets that deploy/init.sh makes."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("compose.yaml", "Containerfile", ".dockerignore", "pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(ROOT / name, folder)
    for part in ("deploy", "src"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    passes("/bin/sh", str(folder / "deploy/init.sh"))
    return folder


@pytest.fixture(scope="session")
def engine() -> str:
    docker = program("docker")
    done = run(docker, "version", "--format", "{{.Server.Version}}")
    if done.returncode:
        pytest.skip(f"no container engine answers: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    if run(docker, "image", "inspect", BASE_IMAGE).returncode:
        pulled = run(docker, "pull", BASE_IMAGE, timeout_s=300)
        if pulled.returncode:
            pytest.skip(f"{BASE_IMAGE} is not here and cannot be pulled: {pulled.stderr.strip()[-200:]}")
    return docker
