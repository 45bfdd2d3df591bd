"""Dashboards of Grafana, made from tables of panels."""

import json
from collections.abc import Iterator, Sequence
from itertools import count
from string import ascii_uppercase
from typing import Any, NamedTuple

COLUMNS = 24
"""Columns of the grid of a dashboard."""

SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Panel(NamedTuple):
    """One panel: what it shows in a sentence, the unit of its values, and its queries, each with its legend.

    One that is a `stat` shows the last value alone, red below `green_from` where that is set. `empty` says of a panel
    without data in a run without faults what is missing there.
    """

    title: str
    shows: str
    unit: str
    queries: tuple[tuple[str, str], ...]
    kind: str = "timeseries"
    green_from: float | None = None
    empty: str = ""


class Row(NamedTuple):
    """Panels side by side, which share the width, and their height in cells."""

    panels: tuple[Panel, ...]
    height: int = 8


class Dashboard(NamedTuple):
    """A dashboard; one that `has_models` has a choice of models, `$model` in its queries."""

    uid: str
    title: str
    shows: str
    rows: tuple[Row, ...]
    has_models: bool = False


def text_of(dashboard: Dashboard, all_of_them: Sequence[Dashboard]) -> str:
    """Return the JSON that Grafana loads, with links to the others."""
    whole = {
        "uid": dashboard.uid,
        "title": dashboard.title,
        "description": dashboard.shows,
        "tags": ["penstock"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "timezone": "browser",
        "time": {"from": "now-3h", "to": "now"},
        "links": [
            {"type": "link", "title": other.title, "url": f"/d/{other.uid}", "keepTime": True}
            for other in all_of_them
            if other is not dashboard
        ],
        "templating": {"list": list(_variables(dashboard))},
        "panels": list(_placed(dashboard)),
    }
    return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"


def _variables(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    yield {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "refresh": 1}
    if dashboard.has_models:
        asked = "label_values(penstock_queue_depth, model)"
        yield {
            "name": "model",
            "label": "Model",
            "type": "query",
            "datasource": SOURCE,
            "definition": asked,
            "query": {"query": asked, "refId": "model"},
            "includeAll": True,
            "allValue": ".*",
            "multi": True,
            "current": {"text": ["All"], "value": ["$__all"]},
            "refresh": 2,
            "sort": 1,
        }


def _placed(dashboard: Dashboard) -> Iterator[dict[str, Any]]:
    numbers, y = count(1), 0
    for row in dashboard.rows:
        width = COLUMNS // len(row.panels)
        for place, panel in enumerate(row.panels):
            at = {"h": row.height, "w": width, "x": place * width, "y": y}
            yield {"id": next(numbers), "gridPos": at, **_shown(panel)}
        y += row.height


def _shown(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit, "noValue": "–"}
    if panel.green_from is not None:
        steps = [{"color": "red", "value": None}, {"color": "green", "value": panel.green_from}]
        defaults |= {"color": {"mode": "thresholds"}, "thresholds": {"mode": "absolute", "steps": steps}}
    if panel.kind == "timeseries":
        defaults |= {"min": 0, "custom": {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never"}}
    options = {
        "stat": {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"},
        "timeseries": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
    }
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.shows,
        "datasource": SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options[panel.kind],
        "targets": [
            {"refId": letter, "datasource": SOURCE, "expr": expression, "legendFormat": legend, "range": True}
            for letter, (expression, legend) in zip(ascii_uppercase, panel.queries, strict=False)
        ],
    }
