"""What the tests of clients share."""

import shutil
from pathlib import Path

import pytest

from tests.clients.programs import HERE, JS, NODE, NPM, TSC, run


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what package.json names; folders inside of it find that too."""
    folder = tmp_path_factory.mktemp("packages")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    run(*NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=folder)
    return folder


@pytest.fixture(scope="session")
def built(packages: Path) -> Path:
    """The folder of the npm package, beside the packages that it is built with."""
    folder = packages / "js"
    shutil.copytree(JS, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "out"))
    run(*NODE, packages / TSC, cwd=folder)
    return folder
