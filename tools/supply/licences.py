"""The licences of the locked packages, as their own metadata say them: writes docs/reference/licences.md."""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from tools.supply.locks import LOCKS, OF_IMAGES, ROOT, Pin, all_pins

PAGE = ROOT / "docs" / "reference" / "licences.md"
LONGEST = 50
"""Characters of a `License` that names one; some packages have the whole text there."""

HEAD = """\
# Licences of the packages

Penstock itself is under the [MIT licence](../../LICENSE); [NOTICE](../../NOTICE) names the networks and the photo that
come with it. These are the packages of [deploy/requirements](../../deploy/requirements), which the container images are
built from, with the licences that their metadata name. `just lock` writes this page.

| package | version | licence | in |
| --- | --- | --- | --- |
"""


def write_page() -> None:
    """Write the page. It asks a package index for the metadata of each locked version, and installs nothing."""
    licences = {name: licence for lock in OF_IMAGES for name, licence in _licences_of(lock).items()}
    used: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for lock, pins in all_pins().items():
        for pin in pins:
            used[pin.name, str(pin.version)].append(lock)
    rows = [
        f"| {name} | {version} | {licences.get(name, 'not for this platform')} | {', '.join(sorted(where))} |"
        for (name, version), where in sorted(used.items())
    ]
    PAGE.write_text(HEAD + "\n".join(rows) + "\n")
    print(f"{PAGE.relative_to(ROOT)}: {len(rows)} packages")


def listed(pin: Pin) -> str:
    """Return how a row of the page begins that lists this package."""
    return f"| {pin.name} | {pin.version} |"


def licence_of(metadata: dict[str, Any]) -> str:
    """Return the licence that a package's metadata name: the expression, the short name, or the classifiers."""
    if expression := metadata.get("license_expression"):
        return str(expression)
    named = (metadata.get("license") or "").strip().partition("\n")[0]
    if 0 < len(named) <= LONGEST:
        return named
    classifiers = [one for one in metadata.get("classifier", ()) if one.startswith("License ::")]
    return ", ".join(one.rpartition(" :: ")[2] for one in classifiers) or named[:LONGEST] or "not named"


def _licences_of(lock: str) -> dict[str, str]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = ("pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps", "--report", str(report))
        subprocess.run([sys.executable, "-m", *command, "-r", str(LOCKS / f"{lock}.txt")], check=True)
        found = json.loads(report.read_text())["install"]
    return {canonicalize_name(one["metadata"]["name"]): licence_of(one["metadata"]) for one in found}
