"""What the README says is what the code has."""

import re
from pathlib import Path

import pytest

from penstock.bench.figures import Report
from penstock.errors import codes
from penstock.settings import ALIASES, NO_SETTINGS, Settings, env_name
from penstock.telemetry.instruments import INSTRUMENTS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PERFORMANCE = (ROOT / "docs" / "performance.md").read_text()


def rows(heading: str, page: str = README) -> list[list[str]]:
    """Cells of the table under a heading."""
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_of_metrics_is_the_table_in_the_code() -> None:
    listed = [(name.strip("`"), tuple(re.findall(r"`(\w+)`", labels)), text) for name, labels, text in rows("Metrics")]

    assert listed == [(i.exported, i.labels, i.help) for i in INSTRUMENTS.values()]


def test_the_table_of_figures_is_what_bench_writes() -> None:
    listed = [name.strip("`") for name, _ in rows("The JSON file", PERFORMANCE)]

    assert listed == list(Report.__struct_fields__)


def test_the_table_of_errors_is_the_closed_list() -> None:
    listed = {code.strip("`"): (int(status), retry == "yes") for code, status, retry, _ in rows("Errors")}

    assert listed == {code: (cls.status, cls.retryable) for code, cls in codes().items()}


def test_every_setting_that_the_readme_names_exists() -> None:
    known = {env_name(s, f) for s, values in ((s, getattr(Settings(), s)) for s in Settings().__struct_fields__)
             for f in values.__struct_fields__} | NO_SETTINGS  # fmt: skip

    for name in re.findall(r"(?<!_)PENSTOCK_[A-Z0-9_]+[A-Z0-9]", README):
        assert name in known or any(k.startswith(name) for k in known) or name == "PENSTOCK_<SECTION>_<FIELD>", name
    assert all(f"`{alias}`" in README for alias in ALIASES)


PAGES = sorted(p for p in ROOT.glob("**/*.md") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts))


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), target


def test_codes_have_one_class_each() -> None:
    classes = list(codes().values())

    assert len({cls.code for cls in classes}) == len(classes)
    assert all(400 <= cls.status < 600 for cls in classes)


def test_every_error_code_is_asserted_by_some_test() -> None:
    tests = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py") if p.name != "test_docs.py")

    untested = [code for code, cls in codes().items() if code not in tests and cls.__name__ not in tests]
    assert untested == []


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_the_tests_that_are_named_exist(path: Path) -> None:
    named = set(re.findall(r"`(test_\w+)`", path.read_text()))
    there = {name for p in (ROOT / "tests").rglob("test_*.py") for name in re.findall(r"def (test_\w+)", p.read_text())}

    assert named - there == set()
    for file in re.findall(r"`(tests/[\w/]+(?:\.py)?)`", path.read_text()):
        assert (ROOT / file).exists(), file
