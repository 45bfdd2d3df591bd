"""The chart, rendered by Helm's own library, without a cluster."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import helm_python
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/penstock"
TRIAL = ROOT / "deploy/helm/trial.yaml"

RELEASE, NAMESPACE = "images", "inference"
CASES = sorted(path.name.removesuffix("-values.yaml") for path in (CHART / "ci").glob("*-values.yaml"))
"""The files of values, each of which the chart must render to what a cluster takes."""

Object = dict[str, Any]


def values_of(case: str) -> dict[str, Any]:
    return yaml.safe_load((CHART / f"ci/{case}-values.yaml").read_text())


def rendered(values: dict[str, Any]) -> dict[str, str]:
    """Returns the texts by the files of their templates. Raises HelmError where the values are refused."""
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(values)
        return chart.render(values, name=RELEASE, namespace=NAMESPACE)


def objects_in(texts: dict[str, str]) -> list[Object]:
    """Returns every object of what was rendered, the notes apart."""
    files = [text for name, text in texts.items() if not name.endswith(".txt")]
    return [document for text in files for document in yaml.safe_load_all(text) if document]


@cache
def objects(case: str) -> list[Object]:
    """Returns the objects that the chart makes of the values of a case, or of the trial's own file."""
    if case == "trial":
        return [document for document in yaml.safe_load_all(TRIAL.read_text()) if document]
    return objects_in(rendered(values_of(case)))


def of_kind(case: str, *kinds: str) -> list[Object]:
    return [each for each in objects(case) if each["kind"] in kinds]


def named(case: str, kind: str, name: str) -> Object:
    (found,) = [each for each in of_kind(case, kind) if each["metadata"]["name"] == name]
    return found


def name_of(one: Object) -> str:
    return f"{one['kind']}/{one['metadata']['name']}"


def pods(case: str) -> Iterator[tuple[str, Object]]:
    """Yields each pod, or template of pods, by the name of its object."""
    for one in of_kind(case, "Deployment", "StatefulSet", "Job"):
        yield name_of(one), one["spec"]["template"]
    for one in of_kind(case, "Pod"):
        yield name_of(one), one


def containers(case: str) -> Iterator[tuple[str, Object]]:
    """Yields each container of each pod."""
    for name, pod in pods(case):
        for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
            yield f"{name}/{container['name']}", container


def environment(container: Object) -> dict[str, str]:
    return {variable["name"]: variable["value"] for variable in container.get("env", [])}
