"""`python -m tools.convert --check` proves the shipped models; `--write` makes them again."""

from __future__ import annotations

import argparse
import hashlib
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from .recipes import RECIPES
from .sources import SourceError

MODELS = Path(__file__).parents[2] / "src" / "penstock" / "weights"


def main() -> int:
    options = arguments()
    manifest = listed(tomllib.loads((MODELS / "manifest.toml").read_text())["model"])
    failures = 0
    with tempfile.TemporaryDirectory(prefix="penstock-convert-") as scratch:
        for file in options.files:
            try:
                data = RECIPES[file].build(options.cache or Path(scratch))
            except SourceError as error:
                print(f"{file}: {error}", file=sys.stderr)
                failures += 1
                continue
            if options.write:
                (MODELS / file).write_bytes(data)
            failures += not agrees(file, data, manifest.get(file, {}))
    return 1 if failures else 0


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tools.convert", description=__doc__)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="compare with the digests in the manifest")
    action.add_argument("--write", action="store_true", help="write the files, then compare")
    parser.add_argument("--cache", type=Path, metavar="DIR", help="keep the downloaded packages in this directory")
    parser.add_argument("files", nargs="*", metavar="FILE", help=f"files to convert [all]: {', '.join(RECIPES)}")
    options = parser.parse_args()
    options.files = options.files or list(RECIPES)
    if unknown := set(options.files) - RECIPES.keys():
        parser.error(f"no recipe makes {', '.join(sorted(unknown))}")
    return options


def listed(rows: list[dict[str, Any]]) -> dict[str, dict[str, object]]:
    """The digest and the size of every file of the manifest, by its name."""
    files = {row["file"]: row for row in rows}
    twins = {row["beside"]: row for row in rows if "beside" in row}
    return files | {name: {"sha256": row["beside_sha256"], "bytes": row["beside_bytes"]} for name, row in twins.items()}


def agrees(file: str, data: bytes, entry: dict[str, object]) -> bool:
    """Returns whether the file is the shipped one, and prints it; if not, prints the lines that the manifest would
    need."""
    sha256 = hashlib.sha256(data).hexdigest()
    if (entry.get("sha256"), entry.get("bytes")) == (sha256, len(data)):
        print(f"{file}: as in the manifest, {len(data):,} bytes")
        return True
    print(f'{file}: DIFFERS from the manifest; built: sha256 = "{sha256}", bytes = {len(data)}', file=sys.stderr)
    return False


if __name__ == "__main__":
    sys.exit(main())
