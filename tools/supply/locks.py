"""The locked requirements of each image: one version of each package, with the digests of its files.

They name no index, so that they hold for PyPI and for a mirror of it alike.
"""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LOCKS = ROOT / "deploy" / "requirements"

OF_IMAGES: dict[str, Sequence[str]] = {
    "api": ("pyproject.toml",),
    "worker-cpu": ("pyproject.toml", "--extra", "cpu"),
    "worker-gpu": ("pyproject.toml", "--extra", "gpu", "--constraint", "deploy/constraints-gpu.txt"),
    "build": ("deploy/requirements/build.in",),
}
"""What each lock is made of; `build` is what builds the wheel of Penstock."""

OPTIONS = ("--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate")


class Pin(NamedTuple):
    """One package of a lock. `name` is normalized; `where` is the marker for which it is meant, "" for everywhere."""

    name: str
    version: Version
    where: str
    digests: tuple[str, ...]


def lock() -> None:
    """Write all locks anew, with the newest versions that `pyproject.toml` allows. It needs a package index."""
    for name, sources in OF_IMAGES.items():
        made = LOCKS / f"{name}.txt"
        command = ("pip", "compile", "--quiet", "--no-header", "--upgrade", *OPTIONS, "--output-file", str(made))
        subprocess.run([sys.executable, "-m", "uv", *command, *sources], cwd=ROOT, check=True)
        print(f"{made.relative_to(ROOT)}: {len(pins(made))} packages")


def pins(path: Path) -> tuple[Pin, ...]:
    """Return the packages that a lock lists. Raises ValueError for a line that pins no version."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return tuple(_pin(line) for line in lines if line.strip() and not line.startswith("#"))


def all_pins() -> dict[str, tuple[Pin, ...]]:
    """Return the packages of each lock, by its name."""
    return {name: pins(LOCKS / f"{name}.txt") for name in OF_IMAGES}


def _pin(line: str) -> Pin:
    written, *digests = (part.strip() for part in line.split("--hash="))
    requirement = Requirement(written)
    pinned = [one.version for one in requirement.specifier if one.operator == "=="]
    if len(pinned) != 1:
        raise ValueError(f"{written}: a lock pins one version of each package")
    marker = str(requirement.marker or "")
    return Pin(canonicalize_name(requirement.name), Version(pinned[0]), marker, tuple(digests))
