"""Removes each guard in a copy of this checkout, and runs the test that must fail then.

    python -m tests.mutations [--only WORDS]

The exit status is 1 when no test fails although a guard is removed, or when a test fails although nothing was removed.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from tests.mutations.table import MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]
COPIED = ("src", "tests", "tools", "docs", "deploy", "pyproject.toml", "config.example.toml", "README.md")
FAILS, PASSES = 1, 0


def main() -> int:
    """Returns the exit status, which is 1 when a guard can be removed without a failing test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="only guards with these words in their description or test")
    options = parser.parse_args()
    chosen = [one for one in MUTATIONS if options.only in one.guard or options.only in one.fails]
    with tempfile.TemporaryDirectory(prefix="mutations-") as directory:
        copy = Path(directory)
        for name in COPIED:
            _copy(ROOT / name, copy / name)
        missed = [one.guard for one in chosen if not _is_caught(one, copy)]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} caught" + "".join(f"\n  NOT CAUGHT: {one}" for one in missed))
    return 1 if missed else 0


def _is_caught(mutation: Mutation, copy: Path) -> bool:
    started = time.monotonic()
    before = _status_of(mutation.fails, copy)
    with _mutated(mutation, copy):
        after = _run(mutation.fails, copy)
    is_caught = (before, after) == (PASSES, FAILS)
    word = "caught" if is_caught else f"NOT CAUGHT (before {before}, after {after})"
    print(f"{word:8} {time.monotonic() - started:4.0f} s  {mutation.guard}: {mutation.fails}", flush=True)
    return is_caught


@cache
def _status_of(test: str, copy: Path) -> int:
    """Returns the exit status of a test in an unchanged copy."""
    return _run(test, copy)


@contextmanager
def _mutated(mutation: Mutation, copy: Path) -> Iterator[None]:
    path = copy / mutation.file
    plain = path.read_text()
    assert plain.count(mutation.text) == 1, f"{mutation.file} does not have this once: {mutation.text!r}"
    path.write_text(plain.replace(mutation.text, mutation.instead))
    try:
        yield
    finally:
        path.write_text(plain)


def _run(test: str, copy: Path) -> int:
    """Returns the exit status."""
    by_pytest = test.startswith("tests/")
    command = ["pytest", "-q", "-x", "-m", "", "-p", "no:cacheprovider", test] if by_pytest else test.split()
    finished = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": f"{copy / 'src'}{os.pathsep}{copy}", "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    return finished.returncode


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)


if __name__ == "__main__":
    sys.exit(main())
