"""The chart renders, Helm finds nothing to say about it, and a cluster would take what comes of it."""

import json
import re
from copy import deepcopy
from typing import Any

import helm_python
import jsonschema
import kubernetes_validate
import pytest
import yaml

from penstock import __version__
from tests.kube.chart import (
    CASES,
    CHART,
    NAMESPACE,
    RELEASE,
    ROOT,
    Object,
    name_of,
    named,
    objects,
    objects_in,
    of_kind,
    pods,
    rendered,
    values_of,
)
from tests.kube.custom_resources import SPECS

pytestmark = pytest.mark.kube

KUBERNETES = ("1.29", "1.33", "1.37")
"""The first version that Chart.yaml names, one between, and the last whose schemas are here."""


@pytest.mark.parametrize("case", CASES)
def test_helm_finds_nothing_to_say(case: str) -> None:
    report = helm_python.lint(CHART, values_of(case), strict=True, namespace=NAMESPACE)

    serious = [message for message in report["messages"] if message["severity"] > 1]
    assert (serious, report["errors"]) == ([], [])


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("case", [*CASES, "trial"])
def test_a_cluster_takes_every_object(case: str, version: str) -> None:
    for one in objects(case):
        if (one["apiVersion"], one["kind"]) in SPECS:
            jsonschema.validate(one["spec"], SPECS[one["apiVersion"], one["kind"]])
        else:
            kubernetes_validate.validate(one, version, strict=True)


def test_a_misspelt_member_would_be_found() -> None:
    (service,) = [deepcopy(one) for one in of_kind("minimal", "Service") if one["metadata"]["name"] == "images-api"]
    service["spec"]["selectors"] = service["spec"].pop("selector")

    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(service, KUBERNETES[-1], strict=True)


@pytest.mark.parametrize("case", CASES)
def test_every_object_belongs_to_the_release_and_has_a_name_of_its_own(case: str) -> None:
    names = [name_of(one) for one in objects(case)]

    assert len(set(names)) == len(names)
    for one in objects(case):
        assert one["metadata"]["name"].startswith(RELEASE), name_of(one)
        assert one["metadata"]["labels"]["app.kubernetes.io/instance"] == RELEASE, name_of(one)
        assert len(one["metadata"]["name"]) <= 63


@pytest.mark.parametrize("case", CASES)
def test_selectors_find_the_pods_that_they_mean(case: str) -> None:
    labels = [pod["metadata"]["labels"] for _, pod in pods(case)]
    for one in objects(case):
        spec = one.get("spec", {})
        wanted = spec.get("podSelector", spec.get("selector", {}))
        wanted = wanted.get("matchLabels", wanted)
        if one["kind"] == "ServiceMonitor":
            labels_of_services = [service["metadata"]["labels"] for service in of_kind(case, "Service")]
            assert sum(wanted.items() <= each.items() for each in labels_of_services) == 1, "each pod is read once"
        elif wanted:
            assert any(wanted.items() <= each.items() for each in labels), name_of(one)


# --- values -------------------------------------------------------------------------------------------------------


def schema() -> dict[str, Any]:
    return json.loads((CHART / "values.schema.json").read_text())


def test_the_schema_names_every_value_and_no_other() -> None:
    def resolved(part: dict[str, Any]) -> dict[str, Any]:
        for reference in [part, *part.get("allOf", [])]:
            if "$ref" in reference:
                return schema()["definitions"][reference["$ref"].rpartition("/")[2]]
        return part

    def compared(given: Any, part: dict[str, Any], where: str) -> None:
        members = resolved(part).get("properties")
        if members is None or not isinstance(given, dict):
            return
        assert resolved(part)["additionalProperties"] is False, where
        optional = {"global"} if not where else set(members) if where == ".secrets.values" else set()
        assert set(given) == set(members) - optional, where
        for name, value in given.items():
            compared(value, members[name], f"{where}.{name}")

    compared(yaml.safe_load((CHART / "values.yaml").read_text()), schema(), "")


REFUSED = {
    "a misspelt value": {"redis": {"uri": "redis://a"}},
    "a password in the address": {"redis": {"url": "redis://:secret@redis:6379/0"}},
    "a tag that floats": {"images": {"version": "latest"}},
    "an image that floats": {"api": {"image": "example.com/penstock-api:latest"}},
    "an image without a tag": {"workers": {"cpu": {"image": "example.com/penstock-worker"}}},
    "a secret as a setting": {"settings": {"PENSTOCK_REDIS_PASSWORD": "x"}},
    "a setting that a value sets": {"workers": {"cpu": {"settings": {"PENSTOCK_WORKER_DRAIN_S": "1"}}}},
    "a variable that is no setting": {"settings": {"LD_PRELOAD": "/tmp/x.so"}},
    "a number as a setting": {"settings": {"PENSTOCK_QUEUE_LEASE_S": 6}},
    "a folder of the node": {"extraVolumes": [{"name": "host", "hostPath": {"path": "/"}}]},
    "a container without a limit of memory": {"api": {"resources": {"limits": {"memory": None}}}},
    "a class with a name that no object can have": {"workers": {"H100": {}}},
    "a member of a class that is none": {"workers": {"cpu": {"gpu": 1}}},
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_values_that_cannot_be_meant_are_refused(what: str) -> None:
    with pytest.raises(helm_python.HelmError):
        rendered(values_of("minimal") | REFUSED[what])


MISSING = {
    "redis.url": {"redis": {"url": ""}},
    "secrets.existing": {"secrets": {}},
    "prometheus.address": {"workers": {"cpu": {"scaling": {"enabled": True}}}},
    "ingress.host": {"ingress": {"enabled": True}},
    "take one of them away": {"secrets": {"existing": "mine", "values": {"api-keys": "me:0123456789abcdef"}}},
}


@pytest.mark.parametrize("what", MISSING)
def test_what_is_missing_is_named(what: str) -> None:
    with pytest.raises(helm_python.HelmError, match=re.escape(what)):
        rendered(values_of("minimal") | MISSING[what])


def test_the_values_of_the_page_for_operators_are_values() -> None:
    page = (ROOT / "docs/how-to/kubernetes.md").read_text()
    shown = [yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)]

    assert len(shown) >= 4
    first, *further = shown
    assert [one["kind"] for one in objects_in(rendered(first)) if one["kind"] == "Deployment"]
    for values in further:
        assert objects_in(rendered(first | values | {"prometheus": {"address": "http://prometheus:9090"}}))


def test_a_class_can_be_taken_away() -> None:
    with_none = objects_in(rendered(values_of("minimal") | {"workers": {"cpu": None, "tiny": {}}}))

    deployments = {one["metadata"]["name"] for one in with_none if one["kind"] == "Deployment"}
    assert deployments == {"images-api", "images-worker-tiny"}


# --- what it shares with other files --------------------------------------------------------------------------------


def test_the_chart_brings_the_version_of_penstock() -> None:
    assert yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_the_alerts_are_those_of_deploy() -> None:
    (rule,) = of_kind("everything", "PrometheusRule")

    assert rule["spec"] == yaml.safe_load((ROOT / "deploy/alerts.yml").read_text())


def test_jobs_have_the_names_that_alerts_and_dashboards_go_by() -> None:
    jobs = {job["job_name"] for job in yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]}
    monitors: list[Object] = of_kind("everything", "ServiceMonitor", "PodMonitor")
    endpoints = [
        endpoint
        for monitor in monitors
        for endpoint in monitor["spec"].get("endpoints", monitor["spec"].get("podMetricsEndpoints"))
    ]

    assert {endpoint["relabelings"][0]["replacement"] for endpoint in endpoints} == jobs - {"prometheus"}


def test_the_images_are_those_that_compose_builds() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]
    built = {compose[name]["image"].replace("${IMAGE_VERSION:-local}", "1.2.3") for name in ("api", "worker")}
    used = {
        container["image"].removeprefix("registry.example.com/ml/")
        for name in ("api", "worker-cpu", "worker-h100")
        for container in named("gpus", "Deployment", f"images-{name}")["spec"]["template"]["spec"]["containers"]
    }

    assert used == built | {"penstock-worker:1.2.3-cuda"}
