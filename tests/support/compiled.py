"""Code that the processes of a run share, compiled once.

Where PYTHONDONTWRITEBYTECODE is set, as in most containers, each process would compile it again: that is a quarter of
the CPU time of a `penstock up`, and half of what a process of pytest needs until it has collected the tests. And in a
fresh clone the processes of a run would all do it at the same time.

pytest has no name for what it does with a file of tests. These are used of `_pytest.assertion.rewrite`, which
test_compiled.py holds: `_rewrite_test`, `_read_pyc`, `_write_pyc`, `get_cache_dir` and `PYC_TAIL`.
"""

import compileall
import multiprocessing
import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from _pytest.assertion import rewrite

ROOT = Path(__file__).parents[2]


def compile_package() -> None:
    """Compiles what the processes that tests start import."""
    for folder in ("src", "tests/support", "tools"):
        compileall.compile_dir(ROOT / folder, quiet=2)


def compile_tests(config: pytest.Config) -> None:
    """Compiles all files of tests as `with_assertions` does, on all cores."""
    files = [file for names in ("test_*.py", "conftest.py") for file in (ROOT / "tests").rglob(names)]
    cores, forked = len(os.sched_getaffinity(0)), multiprocessing.get_context("fork")
    parts = [forked.Process(target=with_assertions, args=(files[n::cores], config)) for n in range(cores)]
    for part in parts:
        part.start()
    for part in parts:
        part.join()


def with_assertions(files: Iterable[Path], config: pytest.Config) -> None:
    """Writes what pytest makes of these files, which is code whose assertions explain themselves, to where it looks for
    it before it makes it. What is there and fits is left."""
    for file in files:
        folder = rewrite.get_cache_dir(file)
        compiled = folder / f"{file.stem}{rewrite.PYC_TAIL}"
        if rewrite._read_pyc(file, compiled) is None and rewrite.try_makedirs(folder):
            source, code = rewrite._rewrite_test(file, config)
            rewrite._write_pyc(config.stash[rewrite.assertstate_key], code, source, compiled)
