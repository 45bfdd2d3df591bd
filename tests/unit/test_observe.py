"""The alerts, their runbooks and the dashboards: that they ask for what is there, and are those of the tables."""

import json
import re
from collections.abc import Iterator
from functools import cache
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml

from penstock.core.task import State
from penstock.errors import codes
from penstock.telemetry.instruments import INSTRUMENTS
from tools.observe.__main__ import files
from tools.observe.boards import DASHBOARDS
from tools.observe.slos import IN_TIME, OURS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BOARDS = [f"{board.uid}.json" for board in DASHBOARDS]

CALLERS = re.compile(
    r"input_.*|image_.*|unsupported_.*|upload_.*|execution_timeout|.*deadline_exceeded|output_too_large"
)
"""Codes with which a task may fail by what its client has sent or asked for."""


@cache
def exported() -> dict[str, tuple[str, ...]]:
    """Name in a scrape -> its labels."""
    found: dict[str, tuple[str, ...]] = {}
    for instrument in INSTRUMENTS.values():
        if instrument.kind == "histogram":
            found |= {f"{instrument.exported}{end}": instrument.labels for end in ("_sum", "_count")}
            found[f"{instrument.exported}_bucket"] = (*instrument.labels, "le")
        else:
            found[instrument.exported] = instrument.labels
    return found


@cache
def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def alerts() -> list[dict[str, Any]]:
    return [rule for rule in rules() if "alert" in rule]


@cache
def dashboard(name: str) -> dict[str, Any]:
    return json.loads((DEPLOY / "grafana/dashboards" / name).read_text())


def panels(name: str) -> list[dict[str, Any]]:
    return dashboard(name)["panels"]


def expressions() -> Iterator[tuple[str, str]]:
    """(where, PromQL) of everything that asks Prometheus."""
    for rule in rules():
        yield rule.get("alert") or rule["record"], rule["expr"]
    for name in BOARDS:
        for panel in panels(name):
            for target in panel["targets"]:
                yield panel["title"], target["expr"]
        for variable in dashboard(name)["templating"]["list"]:
            if variable["type"] == "query":
                yield variable["name"], variable["definition"]


ELSEWHERE = {"job", "instance", "process", "slo", "alertstate"}
"""Labels given by Prometheus, by the rules, and by the parent of the processes that it scrapes."""

ASKED = sorted(set(expressions()))


def test_what_is_written_from_tables_is_written() -> None:
    assert [path for path, text in files().items() if path.read_text() != text] == [], "python -m tools.observe"


@pytest.mark.parametrize(("where", "expression"), ASKED)
def test_metrics_exist_and_have_the_labels_that_are_asked_for(where: str, expression: str) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    assert set(re.findall(r"\bpenstock:\w+:\w+", expression)) <= recorded
    names = set(re.findall(r"\bpenstock_\w+", expression))
    asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", expression))
    for grouping in re.findall(r"\b(?:by|on|ignoring)\s*\(([^)]*)\)", expression):
        asked |= {label.strip() for label in grouping.split(",") if label.strip()}

    assert names <= set(exported())
    assert asked <= {label for name in names for label in exported()[name]} | ELSEWHERE


@pytest.mark.parametrize(("where", "expression"), ASKED)
def test_counters_are_only_asked_for_their_growth(where: str, expression: str) -> None:
    """A counter starts at zero in each process, so its value means nothing; `x unless x offset` is the exception."""
    if where in {rule["alert"] for rule in alerts()}:
        expression = re.sub(r"\S+ unless \S+ offset \w+", "", expression)

    for name in re.findall(r"\bpenstock_\w+(?:_total|_sum|_count|_bucket)\b", expression):
        assert len(re.findall(rf"\b{name}\b", expression)) == len(
            re.findall(rf"\b(?:rate|increase)\({name}(?:{{[^}}]*}})?\[", expression)
        ), name


def test_statuses_and_codes_in_expressions_exist() -> None:
    for where, expression in ASKED:
        if "penstock_tasks_finished_total" in expression:
            for value in re.findall(r'(?<=status=")\w+|(?<=status=~")[\w|]+', expression):
                assert set(value.split("|")) <= {*State, "500", "503"}, where
        for value in re.findall(r'\bcode(?:!~|=~|=)"([^"]*)"', expression):
            for pattern in value.split("|"):
                assert [code for code in codes() if re.fullmatch(pattern, code)], f"{where}: {pattern}"


def test_an_alert_says_how_bad_it_is_and_what_to_do() -> None:
    names = [(rule["alert"], rule["labels"]["severity"]) for rule in alerts()]

    assert len(names) == len(set(names)) >= 20
    for rule in alerts():
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert len(rule["annotations"]["summary"]) > 80, rule["alert"]


def test_an_alert_has_a_section_of_the_runbooks_and_a_section_its_alert() -> None:
    text = (ROOT / "docs/how-to/runbooks.md").read_text()
    sections = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))

    assert sections.keys() == {rule["alert"] for rule in alerts()}
    for name, part in sections.items():
        assert re.findall(r"^\*\*(\w+)\*\*", part, re.MULTILINE) == ["Means", "Look", "Do"], name
    for rule in alerts():
        assert rule["annotations"]["runbook"] == f"docs/how-to/runbooks.md#{rule['alert'].lower()}"


def test_a_panel_that_the_runbooks_name_exists() -> None:
    text = (ROOT / "docs/how-to/runbooks.md").read_text()
    titles = {panel["title"] for name in BOARDS for panel in panels(name)} | {"Overview"}
    boards = {board.title.removeprefix("Penstock: ").capitalize() for board in DASHBOARDS} | {"API"}

    assert set(re.findall(r"\(dashboard \*([^*]+)\*\)", text)) <= boards | titles
    assert set(re.findall(r"(?:\bat|panel|,) \*([A-Z][^*]+)\*", text)) <= titles | boards


def test_every_code_of_a_failed_task_is_ours_or_of_its_client() -> None:
    from penstock.errors import of_input, of_run

    of_tasks = {code for code, cls in codes().items() if cls.__module__ in (of_input.__name__, of_run.__name__)}

    assert set(OURS) <= of_tasks
    assert {code for code in of_tasks if CALLERS.fullmatch(code)} == of_tasks - set(OURS)


def test_the_bounds_of_a_start_in_time_are_bounds_of_the_histogram() -> None:
    buckets = {str(bound) for bound in INSTRUMENTS["task.wait"].buckets}

    assert set(IN_TIME.values()) <= buckets


@pytest.mark.parametrize("name", BOARDS)
def test_panels_have_ids_of_their_own_a_unit_and_a_description(name: str) -> None:
    ids = [panel["id"] for panel in panels(name)]

    assert len(ids) == len(set(ids)) >= 6
    for panel in panels(name):
        assert panel["type"] in ("stat", "timeseries")
        assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]
        assert panel["description"], panel["title"]
        assert panel["targets"], panel["title"]
        assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])


@pytest.mark.parametrize("name", BOARDS)
def test_panels_lie_inside_the_grid_and_on_no_other(name: str) -> None:
    def cells(panel: dict[str, Any]) -> set[tuple[int, int]]:
        at = panel["gridPos"]
        return {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}

    for panel in panels(name):
        assert all(0 <= x < 24 for x, _ in cells(panel)), panel["title"]
    for one, other in combinations(panels(name), 2):
        assert not cells(one) & cells(other), f"{one['title']} / {other['title']}"


@pytest.mark.parametrize("name", BOARDS)
def test_panels_ask_the_data_source_of_the_variable(name: str) -> None:
    wanted = {"type": "prometheus", "uid": "${datasource}"}
    variables = {variable["name"]: variable for variable in dashboard(name)["templating"]["list"]}
    asking = [*panels(name), *(target for panel in panels(name) for target in panel["targets"])]

    assert variables["datasource"]["type"] == "datasource"
    for asker in [*asking, *(variable for variable in variables.values() if variable["type"] == "query")]:
        assert asker["datasource"] == wanted
    assert ("$model" in str(asking)) == ("model" in variables)


def test_a_dashboard_leads_to_every_other() -> None:
    for name in BOARDS:
        links = {link["url"].removeprefix("/d/") for link in dashboard(name)["links"]}
        assert links == {board.uid for board in DASHBOARDS} - {dashboard(name)["uid"]}


def test_the_page_has_the_matrix_that_is_tried() -> None:
    from tests.alerts.faults import table

    assert table() in (ROOT / "docs/explanation/reliability.md").read_text()
