"""python -m tools.supply lock | licences | sbom | advisories FILE"""

import argparse
import subprocess
import sys
import zipfile
from datetime import UTC, datetime
from pathlib import Path

from tools.supply import advisories, licences
from tools.supply.locks import LOCKS, OF_IMAGES, ROOT, lock

SBOM = ROOT / "dist" / "sbom"


def write_sboms() -> None:
    """Write a CycloneDX document of each lock; two runs over the same lock write the same bytes."""
    SBOM.mkdir(parents=True, exist_ok=True)
    for name in OF_IMAGES:
        made = SBOM / f"{name}.cdx.json"
        options = ("--output-reproducible", "--output-format", "JSON", "--output-file", str(made))
        command = [sys.executable, "-m", "cyclonedx_py", "requirements", *options, str(LOCKS / f"{name}.txt")]
        subprocess.run(command, check=True)
        print(made.relative_to(ROOT))


def main() -> int:
    """Run one of the four. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tools.supply", description="What Penstock is installed from.")
    acts = parser.add_subparsers(dest="act", required=True)
    acts.add_parser("lock", help="write deploy/requirements anew; needs a package index")
    acts.add_parser("licences", help="write docs/reference/licences.md; needs a package index")
    acts.add_parser("sbom", help="write a CycloneDX document of each lock to dist/sbom")
    of_file = acts.add_parser("advisories", help="compare a file of advisories with the locks, without the net")
    of_file.add_argument("file", type=Path, help="OSV's all.zip of PyPI, or a folder of its JSON files")
    given = parser.parse_args()
    if given.act == "advisories":
        try:
            return advisories.check(given.file, datetime.now(UTC).date())
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            print(f"{given.file}: this is no file of advisories: {error}", file=sys.stderr)
            return 2
    {"lock": lock, "licences": licences.write_page, "sbom": write_sboms}[given.act]()
    return 0


if __name__ == "__main__":
    sys.exit(main())
