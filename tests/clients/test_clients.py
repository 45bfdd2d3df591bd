"""Clients generated from the committed document: made without a warning, strictly typed, and they do the main job."""

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.clients.programs import DOCUMENT, HERE, NODE, PHOTO, run
from tests.support import member_models
from tests.support.processes import System, up

pytestmark = pytest.mark.clients


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with up(tmp_path_factory.mktemp("up")) as running:
        yield running


def check_job(printed: str, result: Path) -> None:
    with Image.open(PHOTO) as photo, Image.open(result) as upscaled:
        size = (photo.width * 4, photo.height * 4)
        assert (upscaled.format, upscaled.size) == ("WEBP", size)
    assert printed.split() == ["SUCCESS", "image/webp", *map(str, size)]


def folder_with(packages: Path, name: str, *files: str) -> Path:
    """Of one test, with these files of ours."""
    folder = packages / name
    folder.mkdir()
    for file in files:
        shutil.copy(HERE / file, folder)
    return folder


@pytest.mark.parametrize(
    ("linter", "arguments"),
    [
        ("@redocly/cli/bin/cli.js", ("lint", "--max-problems=1000", "--format=json")),
        (
            "@stoplight/spectral-cli/dist/index.js",
            ("lint", "--fail-severity=hint", "--ruleset", HERE / "spectral.yaml"),
        ),
    ],
    ids=["redocly", "spectral"],
)
def test_a_linter_finds_nothing_in_the_document(packages: Path, linter: str, arguments: tuple[str | Path, ...]) -> None:
    printed = run(*NODE, packages / "node_modules" / linter, *arguments, DOCUMENT, cwd=packages)

    assert '"severity"' not in printed, printed


def check_results(said: dict[str, Any]) -> None:
    """What a client has read: a quote, the lines of a batch of two, and which tasks a filter by metadata finds."""
    lines = said.pop("lines")
    with Image.open(PHOTO) as photo:
        assert said == {"quoted": ["image-scoring-v1", photo.width], "listed": 2, "would_delete": [2, 0]}
    assert [(name, status) for name, status, _ in lines] == [("photo 1", "SUCCESS"), ("photo 2", "SUCCESS")]
    assert all(1 <= score <= 10 for _, _, score in lines)


def test_a_python_client_does_the_main_job(system: System, tmp_path: Path) -> None:
    made = ("--output-path", tmp_path / "penstock_client", "--meta", "none", "--config", HERE / "python.yaml")
    generator = (sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning")
    run(*generator, "--path", DOCUMENT, *made, cwd=tmp_path)
    shutil.copy(HERE / "main.py", tmp_path)

    run(sys.executable, "-m", "mypy", "--strict", "main.py", "penstock_client", cwd=tmp_path)
    printed = run(sys.executable, "main.py", system.url, system.api_key, PHOTO, "out.webp", cwd=tmp_path)

    check_job(printed, tmp_path / "out.webp")


def test_a_python_client_of_a_server_with_other_models_sends_their_members(tmp_path: Path) -> None:
    made = ("--output-path", tmp_path / "penstock_client", "--meta", "none", "--config", HERE / "python.yaml")
    generator = (sys.executable, "-m", "openapi_python_client", "generate", "--fail-on-warning")
    served = f"{member_models.SPEECH},{member_models.MASKED}"
    environ = {"PENSTOCK_MODELS_MODULES": "tests.support.member_models", "PENSTOCK_MODELS_SERVE": served}
    with up(tmp_path / "up", GPU_IDS="cpu", **environ) as system, system.client() as client:
        (tmp_path / "openapi.json").write_text(client.get("/schema/openapi.json").text)
        run(*generator, "--path", tmp_path / "openapi.json", *made, cwd=tmp_path)
        shutil.copy(HERE / "members.py", tmp_path)

        # Of the package itself mypy finds fault with a class whose only member has its name: Strength.strength.
        run(sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "members.py", cwd=tmp_path)
        printed = run(sys.executable, "members.py", system.url, system.api_key, cwd=tmp_path)

    assert printed.split() == ["SUCCESS", "a.wav", "hi", "3"]


def test_a_client_of_openapi_generator_reads_the_results_of_a_batch(system: System, tmp_path: Path) -> None:
    generator = (sys.executable, "-c", "from openapi_generator_cli import cli; cli()", "generate", "-g", "python")
    run(*generator, "-i", DOCUMENT, "-o", tmp_path, "--package-name", "penstock_client", cwd=tmp_path)
    shutil.copy(HERE / "results.py", tmp_path)

    printed = run(sys.executable, "results.py", system.url, system.api_key, PHOTO, cwd=tmp_path)

    check_results(json.loads(printed))


def test_a_client_of_hey_api_reads_the_results_of_a_batch(system: System, packages: Path) -> None:
    folder = folder_with(packages, "results", "tsconfig.json", "openapi-ts.config.mjs", "results.ts")
    generator = "../node_modules/@hey-api/openapi-ts/bin/run.js"
    run(*NODE, generator, "--no-log-file", cwd=folder, DOCUMENT=str(DOCUMENT))

    run(*NODE, "../node_modules/typescript/bin/tsc", cwd=folder)
    printed = run(*NODE, "out/results.js", system.url, system.api_key, PHOTO, cwd=folder)

    said = json.loads(printed)
    assert (said.pop("submitted"), said.pop("type")) == ("tsk_", "application/x-ndjson")
    check_results(said)


def test_a_typescript_client_does_the_main_job(system: System, packages: Path) -> None:
    folder = folder_with(packages, "main", "tsconfig.json", "main.ts")
    generator = "../node_modules/openapi-typescript/bin/cli.js"
    run(*NODE, generator, DOCUMENT, "-o", "schema.d.ts", "--default-non-nullable=false", cwd=folder)

    run(*NODE, "../node_modules/typescript/bin/tsc", cwd=folder)
    printed = run(*NODE, "out/main.js", system.url, system.api_key, PHOTO, "out.webp", cwd=folder)

    check_job(printed, folder / "out.webp")
