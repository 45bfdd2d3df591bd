"""The pods are what the program needs: its own settings, its own probes, and the time and room that it takes."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from penstock.cli.main import cli
from penstock.errors import ConfigurationError
from penstock.settings import ALIASES, Settings, load
from tests.kube.chart import CASES, ROOT, Object, containers, environment, name_of, named, of_kind, pods
from tests.support.processes import up

pytestmark = pytest.mark.kube

SECRETS = {
    "api-keys": "me:0123456789abcdef0123456789abcdef",
    "redis-password": "a@b:c#d/e",
    "s3-access-key": "penstock",
    "s3-secret-key": "fedcba9876543210",
    "webhook-secrets": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
}
HANDING_BACK_S = 10
"""After worker.drain_s a worker process has so long before its parent kills it: `worker_children`."""


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name, text in SECRETS.items():
        (tmp_path / name).write_text(f"{text}\n")
    return tmp_path


def settings_of(container: Object, secrets: Path) -> Settings:
    given = environment(container).items()
    return load(None, {name: value.replace("/run/secrets/penstock", str(secrets)) for name, value in given})


def servers(case: str) -> list[tuple[str, Object]]:
    """Returns the containers of the API and of the workers."""
    return [(name, container) for name, container in containers(case) if name.startswith("Deployment/")]


@pytest.mark.parametrize("case", CASES)
def test_the_settings_of_a_pod_are_settings(case: str, secrets: Path) -> None:
    for name, container in servers(case):
        settings = settings_of(container, secrets)
        variables = [variable["name"] for variable in container["env"]]
        assert not settings.storage.local, name
        assert len(set(variables)) == len(variables), f"{name}: which one counts?"
        for variable in variables:
            assert variable.removesuffix("_FILE") in ALIASES or variable.startswith("PENSTOCK_"), f"{name}: {variable}"
        assert set(container["args"]) <= set(cli.commands), name


def test_a_variable_that_kubernetes_makes_of_a_service_would_be_refused() -> None:
    """Hence `enableServiceLinks: false`."""
    with pytest.raises(ConfigurationError, match="PENSTOCK_API_SERVICE_HOST"):
        load(None, {"PENSTOCK_API_SERVICE_HOST": "10.0.0.1"})


def test_values_reach_the_settings(secrets: Path) -> None:
    by_name = dict(servers("everything"))
    api = settings_of(by_name["Deployment/images-api/api"], secrets)
    worker = settings_of(by_name["Deployment/images-worker-cpu/worker"], secrets)

    assert (api.redis.url, api.redis.password) == ("redis://redis:6379/0", SECRETS["redis-password"])
    assert api.storage == worker.storage
    assert api.redis == worker.redis
    assert api.queue == worker.queue
    assert (api.storage.s3_access_key, api.storage.s3_secret_key) == ("penstock", SECRETS["s3-secret-key"])
    assert api.storage.s3_public_endpoint == "https://objects.example.com"
    assert api.api.public_url == "https://images.example.com"
    assert api.api.trusted_proxies == ("10.0.0.0/8",)
    assert api.api.cors_origins == ("https://shop.example.com",)
    assert api.queue.lease_s == 10
    assert (len(api.api.keys), len(api.webhooks.secrets)) == (1, 1)
    assert (len(worker.api.keys), len(worker.webhooks.secrets)) == (0, 0)
    assert worker.worker.slots == 4


def test_a_class_of_gpus_is_told_what_it_has(secrets: Path) -> None:
    h100 = named("gpus", "Deployment", "images-worker-h100")["spec"]["template"]["spec"]
    mig = named("gpus", "Deployment", "images-worker-mig")["spec"]["template"]["spec"]
    cpu = named("gpus", "Deployment", "images-worker-cpu")["spec"]["template"]["spec"]
    settings = [settings_of(spec["containers"][0], secrets) for spec in (h100, mig, cpu)]

    assert [one.worker.gpu_ids for one in settings] == ["auto", "auto", "cpu"]
    assert h100["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 2
    assert mig["containers"][0]["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 1
    assert not [name for name in cpu["containers"][0]["resources"]["limits"] if "nvidia" in name]
    assert (h100["priorityClassName"], h100["runtimeClassName"]) == ("gpu-batch", "nvidia")
    assert h100["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3"}
    assert settings[0].models.serve == ("superres-x4", "mine.v2@3", "noop-v1")
    assert settings[1].models.serve == ("image-scoring-v1",)
    assert settings[2].models.serve == ()
    assert settings[0].models.modules == ("/models", "penstock.models.noop")


# --- time to stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
def test_a_worker_may_finish_what_its_device_has_begun(case: str, secrets: Path) -> None:
    for name, container in servers(case):
        if "worker" not in name:
            continue
        worker = settings_of(container, secrets).worker
        pod = named(case, "Deployment", name.split("/")[1])["spec"]["template"]["spec"]
        assert worker.drain_s >= worker.task_timeout_s + 30, name
        assert pod["terminationGracePeriodSeconds"] >= worker.drain_s + HANDING_BACK_S + 10, name


def test_an_api_stops_before_it_is_killed_and_answers_while_proxies_learn_of_it(secrets: Path) -> None:
    for case in CASES:
        pod = named(case, "Deployment", "images-api")["spec"]["template"]["spec"]
        api = settings_of(pod["containers"][0], secrets).api
        ready = pod["containers"][0]["readinessProbe"]
        assert pod["terminationGracePeriodSeconds"] >= api.linger_s + api.drain_s + 10
        assert api.linger_s > ready["periodSeconds"]


# --- room -----------------------------------------------------------------------------------------------------------


def mebibytes(size: str) -> int:
    found = re.fullmatch(r"(\d+)(Mi|Gi)", size)
    assert found is not None, size
    return int(found[1]) * {"Mi": 1, "Gi": 1024}[found[2]]


@pytest.mark.parametrize("case", CASES)
def test_the_spool_has_room_for_every_process_of_the_pod(case: str, secrets: Path) -> None:
    for name, container in servers(case):
        if "worker" not in name:
            continue
        worker = settings_of(container, secrets).worker
        (spec,) = [pod["spec"] for pod_name, pod in pods(case) if name.startswith(f"{pod_name}/")]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        (spool,) = [volume for volume in spec["volumes"] if volume["name"] == mounts[worker.spool_directory]]
        gpus = [count for limit, count in container["resources"]["limits"].items() if limit.startswith("nvidia.com/")]
        room = mebibytes(spool["emptyDir"]["sizeLimit"]) * 2**20
        assert room > 1.1 * worker.spool_max_bytes * max([1, *gpus]), name
        assert mounts[worker.cache_dir] == "cache", name


def test_a_claim_takes_the_place_of_the_cache() -> None:
    spec = named("gpus", "Deployment", "images-worker-h100")["spec"]["template"]["spec"]
    (cache,) = [volume for volume in spec["volumes"] if volume["name"] == "cache"]

    assert cache == {"name": "cache", "persistentVolumeClaim": {"claimName": "penstock-models"}}


# --- probes and ports -----------------------------------------------------------------------------------------------


def test_a_worker_is_ready_by_the_check_of_its_image() -> None:
    containerfile = re.sub(r"\\\n", "", (ROOT / "Containerfile").read_text())
    checks = [json.loads(found) for found in re.findall(r"HEALTHCHECK .* CMD (\[.*\])", containerfile)]
    for name, container in servers("gpus"):
        if "worker" in name:
            assert container["readinessProbe"]["exec"]["command"] in checks, name


@pytest.mark.parametrize("case", CASES)
def test_probes_ask_at_ports_that_the_program_serves(case: str, secrets: Path) -> None:
    for name, container in servers(case):
        settings = settings_of(container, secrets)
        served = (
            {"http": settings.api.port, "metrics": settings.api.metrics_port}
            if name.endswith("/api")
            else {"metrics": settings.telemetry.metrics_port}
        )
        assert {port["name"]: port["containerPort"] for port in container["ports"]} == served, name
        assert settings.telemetry.metrics_host == "0.0.0.0", name
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe].get("httpGet", {}).get("port", "metrics") in served, name
            assert container[probe]["timeoutSeconds"] <= container[probe]["periodSeconds"], name


def test_nothing_restarts_a_pod_because_redis_or_the_storage_is_away() -> None:
    """A restart would bring neither back; and a worker that waits for Redis is alive."""
    for name, container in servers("everything"):
        asked = {container[probe]["httpGet"]["path"] for probe in ("startupProbe", "livenessProbe")}
        assert asked == ({"/livez"} if name.endswith("/api") else {"/metrics"}), name


# --- availability -----------------------------------------------------------------------------------------------------


def test_an_api_pod_serves_while_another_is_replaced_or_its_node_is_drained() -> None:
    for case in CASES:
        deployment = named(case, "Deployment", "images-api")["spec"]
        assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert named(case, "PodDisruptionBudget", "images-api")["spec"]["maxUnavailable"] == 1
    assert named("minimal", "Deployment", "images-api")["spec"]["replicas"] == 2


def test_what_is_scaled_has_no_number_of_its_own() -> None:
    """Else every upgrade of the release would set it back."""
    assert [name_of(one) for one in of_kind("everything", "HorizontalPodAutoscaler")]
    for case in CASES:
        targets = {
            one["spec"]["scaleTargetRef"]["name"] for one in of_kind(case, "HorizontalPodAutoscaler", "ScaledObject")
        }
        for deployment in of_kind(case, "Deployment"):
            assert ("replicas" in deployment["spec"]) == (deployment["metadata"]["name"] not in targets)


def test_a_class_scales_by_all_the_work_of_its_models_and_not_by_an_unknown_number() -> None:
    h100, mig = (named("gpus", "ScaledObject", f"images-worker-{name}")["spec"] for name in ("h100", "mig"))
    (trigger,) = h100["triggers"]

    assert trigger["metadata"]["query"] == (
        'sum(max by (model) (penstock_backlog_seconds{namespace="inference",job="penstock-api",'
        'model=~"superres-x4(@.*)?|mine[.]v2@3|noop-v1(@.*)?"}))'
    )
    assert trigger["metadata"]["activationThreshold"] == "0", "the least of work keeps its worker"
    assert trigger["metadata"]["ignoreNullValues"] == "false", "nobody knows is not nothing"
    assert "fallback" not in h100
    assert (h100["minReplicaCount"], h100["maxReplicaCount"], h100["cooldownPeriod"]) == (0, 8, 300)
    assert (mig["minReplicaCount"], mig["cooldownPeriod"]) == (1, 120)
    assert {one["metadata"]["name"] for one in of_kind("gpus", "ScaledObject")} == {
        "images-worker-h100",
        "images-worker-mig",
    }


# --- a task ---------------------------------------------------------------------------------------------------------


def test_helm_test_sends_a_task_with_the_first_key(tmp_path: Path) -> None:
    """The command runs here with a program in the place of `penstock` that says how it was called."""
    (pod,) = of_kind("minimal", "Pod")
    (container,) = pod["spec"]["containers"]
    keys, said = tmp_path / "api-keys", tmp_path / "said"
    program = tmp_path / "penstock"
    program.write_text(f'#!/bin/sh\necho "$PENSTOCK_API_KEY $*" > {said}\n')
    program.chmod(0o755)
    script = container["command"][-1].replace("/run/secrets/penstock/api-keys", str(keys)).replace("cd /tmp", "cd .")

    for text in ("0123456789abcdef", "me:0123456789abcdef:read+submit,you:x", "0123456789abcdef,me:x"):
        keys.write_text(f"{text}\n")
        environ = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
        subprocess.run([*container["command"][:-1], script], check=True, env=environ, cwd=tmp_path)
        assert said.read_text().split()[:2] == ["0123456789abcdef", "submit"]


def test_the_command_of_helm_test_runs_a_task(tmp_path: Path) -> None:
    (pod,) = of_kind("minimal", "Pod")
    (container,) = pod["spec"]["containers"]
    keys = tmp_path / "api-keys"
    script = container["command"][-1].replace("/run/secrets/penstock/api-keys", str(keys))
    served = {"PENSTOCK_MODELS_MODULES": "penstock.models.noop", "PENSTOCK_MODELS_SERVE": "noop-v1", "GPU_IDS": "cpu"}

    with up(tmp_path / "up", **served) as system:
        keys.write_text(f"me:{system.api_key}:read+submit\n")
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        environ = {"PATH": path, "PENSTOCK_URL": system.url, "HOME": str(tmp_path)}
        command = [*container["command"][:-1], script.replace("cd /tmp", f"cd {tmp_path}")]
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status":"done"' in done.stdout
