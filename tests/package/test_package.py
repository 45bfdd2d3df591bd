"""The wheel as users get it: built, installed beside nothing of this checkout, typed, and at work."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.package, pytest.mark.timeout(900)]

CLIENT = """
from pathlib import Path

from penstock import AsyncClient, Client


def upscale(photo: Path, to: Path) -> str:
    with Client("http://127.0.0.1:8000", "a-key-of-16-characters") as client:
        task = client.wait(client.submit(photo, "superres-x4").task_id)
        client.download(task.task_id, to)
        status: str = task.status
        return status


def dub(voice: Path) -> list[Path]:
    with Client("http://127.0.0.1:8000", "a-key-of-16-characters") as client:
        task = client.run(model="dub@2", inputs={"audio": voice, "text": "hi"})
        return list(client.download_all(task.task_id, "out"))


async def upscale_too(photo: Path) -> bytes:
    async with AsyncClient("http://127.0.0.1:8000", "a-key-of-16-characters") as client:
        return await client.result((await client.run(photo, "superres-x4")).task_id)
"""


def run(*argv: str | Path, cwd: Path) -> str:
    """What it prints. Nothing of the checkout is on its path."""
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    done = subprocess.run(
        [str(part) for part in argv], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    (built,) = folder.iterdir()
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of programs of a fresh environment."""
    folder = tmp_path_factory.mktemp("fresh")
    run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    install(f"{wheel}[cpu]", "mypy", into=folder / "env/bin/python")
    return folder / "env/bin"


def install(*requirements: str, into: Path) -> None:
    """uv takes a tenth of pip's time, and knows nothing of how pip is configured."""
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--python", into]
    pip = [into, "-m", "pip", "install", "-q"]
    if subprocess.run([*uv, *requirements], check=False).returncode:
        run(*pip, *requirements, cwd=into.parent)


def test_the_wheel_has_its_own_name_and_everything_that_is_used(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert wheel.name.startswith("penstock_server-")
    assert "penstock/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"penstock", wheel.name.split("-py3")[0] + ".dist-info"}
    for kind in (".onnx", ".lua", "manifest.toml", "photo.jpg"):
        assert any(name.endswith(kind) for name in names), kind


def test_a_strictly_typed_program_may_use_the_client(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(CLIENT)

    said = run(installed / "python", "-m", "mypy", "--strict", "program.py", cwd=tmp_path)

    assert "no issues found" in said


def test_nothing_of_the_client_is_any(installed: Path, tmp_path: Path) -> None:
    shutil.copy(Path(__file__).with_name("everything.py"), tmp_path)

    said = run(installed / "python", "-m", "mypy", "--strict", "--disallow-any-expr", "everything.py", cwd=tmp_path)

    assert "no issues found" in said


def test_a_wrong_use_of_the_client_is_found_by_the_types(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(CLIENT.replace("client.wait(", "client.wait(1, "))
    checked = subprocess.run(
        [installed / "python", "-m", "mypy", "--strict", "program.py"], cwd=tmp_path, capture_output=True, text=True
    )

    assert checked.returncode == 1
    assert "program.py:9" in checked.stdout


def test_the_installed_command_upscales_and_scores_a_photo(installed: Path, tmp_path: Path) -> None:
    said = run(installed / "penstock", "demo", "-o", "out", cwd=tmp_path)

    assert (tmp_path / "out/photo-x4.png").is_file()
    assert "photo" in said
