"""A checkout for Compose, the container engine of this machine, and the whole stack on it."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.containers.programs import ROOT, passes, program, run
from tests.containers.stack import PROJECT, Stack

BASE_IMAGE = "python:3.12-slim-bookworm"
FILES = (
    "compose.yaml",
    "Containerfile",
    ".dockerignore",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "NOTICE",
    "justfile",
)
FIGURES: list[str] = []

Note = Callable[[str, object], None]


@pytest.fixture(scope="session")
def note() -> Note:
    """Writes a figure under the results of the run."""
    return lambda what, value: FIGURES.append(f"{what}: {value}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures."""
    if FIGURES:
        terminalreporter.section("containers")
        for line in FIGURES:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what Compose reads and builds from, with the secrets that `just init` makes."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in FILES:
        shutil.copy(ROOT / name, folder)
    for part in ("deploy", "src"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("secrets", "__pycache__"))
    passes("/bin/sh", str(folder / "deploy/init.sh"))
    env = folder / ".env"
    env.write_text(env.read_text().replace("COMPOSE_PROJECT_NAME=penstock", f"COMPOSE_PROJECT_NAME={PROJECT}"))
    return folder


@pytest.fixture(scope="session")
def engine() -> str:
    """The program of an engine that answers and has, or can pull, what the images are built from."""
    docker = program("docker")
    done = run(docker, "version", "--format", "{{.Server.Version}}")
    if done.returncode:
        pytest.skip(f"no container engine answers: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    if not has(docker, BASE_IMAGE):
        pytest.skip(f"{BASE_IMAGE} is not here and cannot be pulled")
    return docker


def has(engine: str, image: str) -> bool:
    """Whether the image is here, can be built, or can be pulled. That of Grafana may be missing."""
    if image.startswith(("penstock-", "grafana/")) or run(engine, "image", "inspect", image).returncode == 0:
        return True
    return run(engine, "pull", "-q", image, timeout_s=600).returncode == 0


@pytest.fixture(scope="session")
def stack(engine: str, checkout: Path, note: Note) -> Iterator[Stack]:
    """The stack with a ready worker, which the files test_stack*.py share in their order."""
    running = Stack(checkout, engine)
    shutil.copy(Path(__file__).with_name("own_models.py"), checkout / "deploy/models")
    if missing := [image for image in running.compose("config", "--images").split() if not has(engine, image)]:
        pytest.skip(f"no image, and none can be pulled: {', '.join(missing)}")
    running.end()  # what a run that was broken off has left
    try:
        started = time.monotonic()
        running.just("build", "api", "worker", timeout_s=1800)
        note("just build, s", round(time.monotonic() - started, 1))
        started = time.monotonic()
        running.start()
        note("just up until a worker is ready, s", round(time.monotonic() - started, 1))
        yield running
    finally:
        running.end()
        running.client.close()
