"""What README and docs say is what the code has, and every link and every test that they name is there."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from penstock.bench.figures import Report
from penstock.errors import codes
from penstock.intake.requests import TaskRequest
from penstock.settings import ALIASES, NO_SETTINGS, SECRETS, Settings, env_name
from penstock.telemetry.instruments import INSTRUMENTS
from tools import reference

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README_LINES = 150
"""Two minutes of reading. What does not fit belongs into docs."""


def rows(page: str, heading: str = "") -> list[list[str]]:
    """Cells of the tables of a page, or of those under a heading."""
    text = (DOCS / page).read_text()
    section = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0] if heading else text
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


# --- reference pages ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", reference.GENERATED)
def test_the_reference_is_what_the_code_says(name: str) -> None:
    assert reference.pages()[name] == (DOCS / "reference" / name).read_text(), "run python -m tools.reference"


def test_the_table_of_metrics_is_the_table_in_the_code() -> None:
    listed = [
        (name.strip("`"), tuple(re.findall(r"`(\w+)`", labels)), text)
        for name, labels, text in rows("reference/metrics.md", "Metrics")
    ]

    assert listed == [(i.exported, i.labels, i.help) for i in INSTRUMENTS.values()]


def test_the_table_of_figures_is_what_bench_writes() -> None:
    listed = [name.strip("`") for name, _ in rows("explanation/performance.md", "The JSON file")]

    assert listed == list(Report.__struct_fields__)


def test_the_table_of_errors_is_the_closed_list() -> None:
    listed = {code.strip("`"): (int(status), retry == "yes") for code, status, retry, _ in rows("reference/errors.md")}

    assert listed == {code: (cls.status, cls.retryable) for code, cls in codes().items()}


def test_the_table_of_members_is_what_a_submit_takes() -> None:
    listed = [cells[0].strip("`").partition(".")[0] for cells in rows("reference/api.md", "Tasks") if len(cells) == 2]

    assert sorted(listed) == sorted(TaskRequest.__struct_fields__)


def test_every_setting_that_the_readme_names_exists() -> None:
    known = {env_name(s, f) for s, values in ((s, getattr(Settings(), s)) for s in Settings().__struct_fields__)
             for f in values.__struct_fields__} | NO_SETTINGS  # fmt: skip
    known |= {f"{env_name(*secret)}_FILE" for secret in SECRETS}

    for page in PAGES:
        for name in re.findall(r"(?<!_)PENSTOCK_[A-Z0-9_]+[A-Z0-9]", page.read_text()):
            assert name in known or any(k.startswith(name) for k in known) or name == "PENSTOCK_<SECTION>_<FIELD>", name
    assert all(f"`{alias}`" in (DOCS / "reference/settings.md").read_text() for alias in ALIASES)


# --- links --------------------------------------------------------------------------------------------------------

HIDDEN = {".standin", ".venv", "node_modules"}
PAGES = sorted(p for p in ROOT.glob("**/*.md") if not HIDDEN & set(p.parts))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Path and anchor of every link to a file of the repository, outside of code."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


@cache
def anchors(page: Path) -> frozenset[str]:
    """What GitHub makes of the headings of a page."""
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_to_files_lead_somewhere(path: Path) -> None:
    for target, anchor in links(path):
        there = (path.parent / target).resolve() if target else path
        assert there.exists(), target
        if anchor:
            assert anchor in anchors(there), f"{target}#{anchor}"


def test_every_page_is_in_the_index() -> None:
    index = {(DOCS / target).resolve() for target, _ in links(DOCS / "README.md")}

    assert [name_of(page) for page in sorted(DOCS.rglob("*.md")) if page not in index | {DOCS / "README.md"}] == []


def test_the_readme_can_be_read_in_two_minutes() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= README_LINES


# --- tests that hold what is promised -----------------------------------------------------------------------------


def test_codes_have_one_class_each() -> None:
    classes = list(codes().values())

    assert len({cls.code for cls in classes}) == len(classes)
    assert all(400 <= cls.status < 600 for cls in classes)


def test_every_error_code_is_asserted_by_some_test() -> None:
    tests = "\n".join(p.read_text() for p in (ROOT / "tests").rglob("test_*.py") if p.name != "test_docs.py")

    untested = [code for code, cls in codes().items() if code not in tests and cls.__name__ not in tests]
    assert untested == []


@cache
def names_of_tests() -> frozenset[str]:
    texts = [p.read_text() for p in (ROOT / "tests").rglob("test_*.py")]
    return frozenset(name for text in texts for name in re.findall(r"def (test_\w+)", text))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_the_tests_that_are_named_exist(path: Path) -> None:
    text = path.read_text()
    named = set(re.findall(r"`(test_\w+)`", text))

    assert named - names_of_tests() == set()
    for file in re.findall(r"`((?:tests|tools|src|deploy)/[\w/]+(?:\.\w+)?)`", text):
        assert (ROOT / file).exists() or file.startswith("deploy/secrets"), file  # those are made by deploy/init.sh


LAST_IDS = ["SS13", "UP10", "AU6", "TE4", "RL3", "PK2", "RE3", "MO3", "ST3", "LO2", "HT5", "WH2", "SC2", "CO3"]
"""The last id of each group of what hostile clients try."""


def test_the_table_of_security_has_each_id_once_with_its_tests_or_what_it_waits_for() -> None:
    text = (DOCS / "explanation" / "security-tests.md").read_text()
    found = re.findall(r"^\| ([A-Z]{2}\d+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)

    assert [id_ for id_, _ in found] == [f"{id_[:2]}{n + 1}" for id_ in LAST_IDS for n in range(int(id_[2:]))]
    for id_, shown_by in found:
        assert re.match(r"`test_|open\b|later: ", shown_by), id_
        assert set(re.findall(r"`test_([a-z]{2}\d+)_", shown_by)) <= {id_.lower()}, id_


@pytest.mark.parametrize(("name", "language", "most"), [("index.html", "html", 40), ("server.py", "python", 20)])
def test_the_tutorial_shows_the_files_of_its_page_as_they_are(name: str, language: str, most: int) -> None:
    file = (DOCS / "tutorials" / "page" / name).read_text()

    assert f"```{language}\n{file}```" in (DOCS / "tutorials" / "a-page.md").read_text()
    assert len(file.splitlines()) <= most
    assert max(map(len, file.splitlines())) <= 120
