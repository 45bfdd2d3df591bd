"""`python -m tools.fuzz` finds what a reader must not do, and shows it again; its targets accept what is valid."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.bad_readers import READERS
from tools.fuzz.table import TARGETS
from tools.fuzz.target import ACCEPTED, Target

ROOT = Path(__file__).parents[2]

FAULTS = {
    "raises": "KeyError",
    "disagrees": "AssertionError at",
    "crashes": "the process was ended by SIGABRT",
    "hangs": "TookTooLong",
    "hangs_in_c": "code in C took too long",
    "takes_memory": "one input took 4",
    "leaks": "the process grew by",
    "accepts_all": "must both accept and refuse",
}


def fuzz(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.support.bad_readers", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.fixture(scope="module")
def bad_run(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a run of readers with faults prints, and the directory with the inputs that failed."""
    directory = tmp_path_factory.mktemp("faults")
    run = fuzz("--runs", "200", "--seed", "3", "--engine", "mutations", "--faults", str(directory))
    assert run.returncode == 1, run.stderr
    return run.stdout, directory


@pytest.mark.parametrize("reader", FAULTS)
def test_a_fault_is_reported_for_a_reader_that(reader: str, bad_run: tuple[str, Path]) -> None:
    said = re.split(r"^(?=ok|FAIL)", bad_run[0], flags=re.MULTILINE)

    (of_reader,) = [text for text in said if text[5:].split(" ")[0] == reader]

    assert of_reader.startswith("FAIL")
    assert FAULTS[reader] in of_reader


def test_a_reader_without_a_fault_is_right(bad_run: tuple[str, Path]) -> None:
    assert re.search(r"^ok +right +200 runs", bad_run[0], flags=re.MULTILINE)
    assert set(FAULTS) | {"right"} == {one.__name__ for one in READERS}


def test_an_input_that_failed_is_short_and_fails_again(bad_run: tuple[str, Path]) -> None:
    said, directory = bad_run
    (file,) = directory.glob("disagrees-*")
    assert f"just fuzz --replay {file}" in said
    assert len(file.read_bytes()) == 4

    again = fuzz("--replay", str(file))

    assert (again.returncode, "it says another size" in again.stderr) == (1, True)


def test_an_input_that_does_not_fail_is_replayed_too(tmp_path: Path) -> None:
    file = tmp_path / "right-1"
    file.write_bytes(b"b")

    again = fuzz("--replay", str(file))

    assert (again.returncode, again.stdout) == (0, "right: accepted\n")


@pytest.mark.parametrize("target", TARGETS, ids=lambda one: one.name)
def test_of_the_seeds_of_each_target_one_is_accepted(target: Target) -> None:
    outcomes = [target.check(data) for data in target.seeds()]

    assert ACCEPTED in outcomes
    assert all(len(data) <= target.most_bytes for data in target.seeds())
