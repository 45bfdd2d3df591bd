"""What runs in a cluster is closed: as little as possible may be done from inside of a pod, or reach it."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.kube.chart import CASES, Object, containers, environment, objects, of_kind, pods

pytestmark = pytest.mark.kube

EVERYTHING = [*CASES, "trial"]
SECRET = ("KEY", "PASSWORD", "SECRET", "TOKEN")


def each_text(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        yield from (text for pair in part.items() for one in pair for text in each_text(one))
    elif isinstance(part, list):
        yield from (text for one in part for text in each_text(one))
    elif isinstance(part, str):
        yield part


@pytest.mark.parametrize("case", EVERYTHING)
def test_no_container_runs_as_root_or_may_become_it(case: str) -> None:
    for name, pod in pods(case):
        context = pod["spec"]["securityContext"]
        assert context["runAsNonRoot"] is True, name
        assert context["runAsUser"] >= 999, name
        assert context["seccompProfile"] == {"type": "RuntimeDefault"}, name
    for name, container in containers(case):
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, name
        assert context["readOnlyRootFilesystem"] is True, name
        assert context["capabilities"] == {"drop": ["ALL"]}, name
        assert not {"privileged", "runAsUser", "procMount"} & set(context), name


@pytest.mark.parametrize("case", EVERYTHING)
def test_no_pod_has_a_token_or_anything_of_its_node(case: str) -> None:
    for name, pod in pods(case):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, name
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec), name
        assert not [volume for volume in spec["volumes"] if "hostPath" in volume], name
    for name, container in containers(case):
        assert not [port for port in container.get("ports", []) if "hostPort" in port], name
    for account in of_kind(case, "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False
    assert not of_kind(case, "Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding")


@pytest.mark.parametrize("case", EVERYTHING)
def test_no_image_floats(case: str) -> None:
    for name, container in containers(case):
        _, _, tag = container["image"].rpartition("/")[2].partition(":")
        assert tag, name
        assert tag != "latest", name


@pytest.mark.parametrize("case", EVERYTHING)
def test_every_container_asks_for_what_it_needs_and_has_a_limit_of_memory(case: str) -> None:
    for name, container in containers(case):
        resources = container["resources"]
        assert {"cpu", "memory"} <= set(resources["requests"]), name
        assert "memory" in resources["limits"], name
    for name, pod in pods(case):
        for volume in pod["spec"]["volumes"]:
            if "emptyDir" in volume:
                assert volume["emptyDir"]["sizeLimit"], f"{name}: {volume['name']} may fill the node"


@pytest.mark.parametrize("case", EVERYTHING)
def test_secrets_are_files_that_the_user_of_the_pod_alone_reads(case: str) -> None:
    for name, container in containers(case):
        assert not [variable for variable in container.get("env", []) if "valueFrom" in variable], name
        assert "envFrom" not in container, name
        for variable, value in environment(container).items():
            if any(word in variable for word in SECRET):
                assert variable.endswith("_FILE"), f"{name}: {variable}"
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"
        for mount in container["volumeMounts"]:
            if mount["mountPath"].startswith("/run/secrets"):
                assert mount["readOnly"] is True, name
    for name, pod in pods(case):
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["defaultMode"] == 0o440, name
                assert volume["secret"]["items"], f"{name} gets every secret there is"


def test_the_secrets_of_the_values_are_in_the_secret_alone() -> None:
    (secret,) = of_kind("everything", "Secret")
    texts = list(secret["stringData"].values())
    others = [text for one in objects("everything") if one["kind"] != "Secret" for text in each_text(one)]

    assert len(texts) == 5
    assert [text for text in texts if text != "penstock" and any(text in other for other in others)] == []


def test_workers_know_no_secret_of_the_api() -> None:
    for name, pod in pods("everything"):
        keys = {
            item["key"] for volume in pod["spec"]["volumes"] if "secret" in volume for item in volume["secret"]["items"]
        }
        assert ("api-keys" in keys) == ("worker" not in name), name
        assert ("webhook-secrets" in keys) == (name == "Deployment/images-api"), name


@pytest.mark.parametrize("case", CASES)
def test_services_of_the_namespace_become_no_settings(case: str) -> None:
    """A Service `penstock-api` would give every pod a variable PENSTOCK_API_PORT, which is a setting."""
    for name, pod in pods(case):
        assert pod["spec"]["enableServiceLinks"] is False, name


# --- network ------------------------------------------------------------------------------------------------------


def policies(case: str, direction: str, labels: dict[str, str]) -> list[Object]:
    """Returns the rules for pods with these labels; None where nothing is said of this direction."""
    own = [
        policy["spec"]
        for policy in of_kind(case, "NetworkPolicy")
        if policy["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        and direction.title() in policy["spec"]["policyTypes"]
    ]
    assert own, f"{labels} may do everything: {direction}"
    return [rule for spec in own for rule in spec.get(direction, [])]


@pytest.mark.parametrize("case", CASES)
def test_a_pod_reaches_and_is_reached_by_what_is_named_alone(case: str) -> None:
    for name, pod in pods(case):
        labels = pod["metadata"]["labels"]
        coming, going = (policies(case, direction, labels) for direction in ("ingress", "egress"))
        ports = sorted(port["port"] for rule in coming for port in rule["ports"])
        assert ports == {"api": [8000, 9465], "worker": [9464], "test": []}[labels["app.kubernetes.io/component"]], name
        assert all(rule["from"] for rule in coming), f"{name}: everybody"
        assert all(rule["ports"] for rule in going), f"{name}: every port"


def test_the_world_outside_is_reached_where_it_is_asked_for_and_never_a_private_address() -> None:
    def outside(case: str) -> dict[str, list[Object]]:
        found: dict[str, list[Object]] = {}
        for _, pod in pods(case):
            labels = pod["metadata"]["labels"]
            rules = [r for r in policies(case, "egress", labels) if {"port": 80} in r["ports"]]
            found[labels["app.kubernetes.io/component"]] = [peer for rule in rules for peer in rule["to"]]
        return found

    assert outside("minimal") == {"api": [], "worker": [], "test": []}
    (four, six) = outside("everything")["worker"]
    assert outside("everything")["api"] == [four, six], "for webhooks"
    assert outside("everything")["test"] == []
    assert {"10.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"} <= set(four["ipBlock"]["except"])
    assert {"fc00::/7", "fe80::/10"} <= set(six["ipBlock"]["except"])


def test_metrics_leave_the_cluster_with_no_service() -> None:
    for case in CASES:
        for service in of_kind(case, "Service"):
            if any(port["name"] == "metrics" for port in service["spec"]["ports"]):
                assert service["spec"]["type"] == "ClusterIP"
                assert len(service["spec"]["ports"]) == 1
