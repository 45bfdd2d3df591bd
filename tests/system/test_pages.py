"""What README and docs show works: every command of every page is run, from top to bottom, by `just at-length`; else
those of all pages but some which start their own servers."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet
from PIL import Image

from penstock.settings import clean_environment
from tests.support import graphs, pages
from tests.support.processes import System, up

ROOT = Path(__file__).parents[2]
API = ROOT / "docs" / "reference" / "api.md"
PAGES = pages.pages(ROOT)
ALWAYS = ("README.md",)
"""Of the pages that start servers of their own, which is most of the time, these are run each time."""

LONG = tuple(f"docs/how-to/{name}.md" for name in ("models", "command-line", "find-out", "batches"))
"""These start none, and take as long."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One server for all pages that start none of their own."""
    with up(tmp_path_factory.mktemp("server")) as system:
        yield system


def test_the_page_has_every_endpoint() -> None:
    paths = json.loads((ROOT / "docs" / "openapi.json").read_text())["paths"]

    shown = re.findall(r"^### `(.+)`$", API.read_text(), re.MULTILINE)

    assert sorted(shown) == sorted(f"{method.upper()} {path}" for path, item in paths.items() for method in item)


def test_a_block_that_is_not_run_says_why() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for block in pages.blocks(page.read_text()):
            if block.word == "not run":
                assert len(block.rest.split()) >= 4, f"{page.name}: {block.rest!r}"


def _lay_out(package: Path) -> None:
    """Makes the folder that pages take their files from. Their photo costs a tenth to enlarge, and the second of the
    networks that they add is a small one: the first shows what a large one takes."""
    weights, models = package / "weights", package / "models"
    weights.mkdir(parents=True)
    models.mkdir()
    for file in ("image-scoring-v1.nima.onnx", "superres-x4.clean.onnx"):
        (weights / file).symlink_to(ROOT / "src" / "penstock" / "weights" / file)
    graphs.upscaler(weights).rename(weights / "superres-x4.general.onnx")
    with Image.open(ROOT / "src" / "penstock" / "models" / "photo.jpg") as photo:
        photo.resize((72, 48)).save(models / "photo.jpg")


def _case(page: Path) -> ParameterSet:
    name = str(page.relative_to(ROOT))
    is_long = name in LONG or (pages.starts_a_server(page.read_text()) and name not in ALWAYS)
    return pytest.param(page, id=name, marks=pytest.mark.at_length if is_long else ())


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl")
@pytest.mark.parametrize("page", [_case(page) for page in PAGES])
def test_every_command_of_the_page_works_from_top_to_bottom(
    page: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    text = page.read_text()
    if missing := pages.missing(text):
        pytest.skip(f"it needs {' and '.join(missing)}")
    _lay_out(tmp_path / "src" / "penstock")
    (tmp_path / ".venv").symlink_to(sys.prefix)
    with ExitStack() as stack:
        ports = {8000: 0, 6379: 0, 9000: 0}
        for port in ports:
            ports[port] = stack.enter_context(socket.create_server(("127.0.0.1", 0))).getsockname()[1]
    environ = clean_environment() | {"PENSTOCK_API_PORT": str(ports[8000]), "PENSTOCK_TELEMETRY_METRICS_PORT": "0"}
    if not pages.starts_a_server(text):
        system = request.getfixturevalue("server")
        (tmp_path / "penstock-data").symlink_to(system.process.log.parent)
        ports[8000] = int(system.url.rpartition(":")[2])
    environ |= {
        "PENSTOCK_URL": f"http://127.0.0.1:{ports[8000]}",
        "WEBHOOK": "https://told.invalid",
        "GPU_IDS": "cpu",
        "no_proxy": "*",
        "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
    }

    try:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", pages.script(text, ports)],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=170,
            check=False,
        )
    finally:  # what the script could not stop itself
        for pid in tmp_path.glob(".*.pid"):
            os.killpg(int(pid.read_text()), signal.SIGKILL)

    logs = "".join(f"\n--- {log.name}\n{log.read_text()[-2000:]}" for log in sorted(tmp_path.glob(".*.log")))
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:] + logs
    if page == API:
        assert json.loads((tmp_path / "result").read_text()).keys() == {"score", "distribution"}
