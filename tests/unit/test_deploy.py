"""What is deployed names only what exists: settings, metrics, commands, error codes; and is as closed as it claims."""

import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from penstock.cli.main import cli
from penstock.errors import ConfigurationError
from penstock.local.deaths import EXIT_CONFIGURATION
from penstock.models.loading import files_of
from penstock.settings import ALIASES, Settings, env_name, load
from penstock.settings import SECRETS as SECRET_SETTINGS
from penstock.telemetry.instruments import INSTRUMENTS

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"

KEY = "me:0123456789abcdef0123456789abcdef"
SECRETS = {
    "api_keys": KEY,
    "redis_password": "0123456789abcdef",
    "s3_secret_key": "fedcba9876543210",
    "webhook_secrets": "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=",
    "grafana_password": "89abcdef01234567",
}
"""What deploy/init.sh might make, by the name of the file."""

PENSTOCK_SERVICES = ("api", "worker")
FILES = ("compose.yaml", "deploy/compose.gpu.yaml", "deploy/compose.tls.yaml")


# --- compose --------------------------------------------------------------------------------------------------


@cache
def compose(name: str = "compose.yaml") -> dict[str, Any]:
    return yaml.safe_load((ROOT / name).read_text())


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]


_VARIABLE = re.compile(r"\$(?:(?P<dollar>\$)|\{(?P<name>\w+)(?:(?P<operator>:[-?])(?P<argument>[^}]*))?\})")


def resolved(text: str, environ: dict[str, str]) -> str:
    """The text with its variables, as Compose reads them."""

    def value(match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        if given := environ.get(match["name"]):
            return given
        if match["operator"] == ":-":
            return match["argument"]
        raise LookupError(f"{match['name']} has no value: {match['argument']}")

    return _VARIABLE.sub(value, text)


def variables(text: str, operator: str | None = None) -> set[str]:
    return {m["name"] for m in _VARIABLE.finditer(text) if m["name"] and operator in (None, m["operator"])}


def environment_of(service: dict[str, Any], secrets: Path | None = None) -> dict[str, str]:
    """The service's variables as the process gets them, with the secrets of a folder; YAML's own booleans and numbers
    are not allowed."""
    given = service.get("environment", {})
    assert all(isinstance(value, str) for value in given.values()), given
    found = {name: resolved(value, {}) for name, value in given.items()}
    if secrets is None:
        return {name: value for name, value in found.items() if not value.startswith("/run/secrets/")}
    return {name: value.replace("/run/secrets", str(secrets)) for name, value in found.items()}


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name, text in SECRETS.items():
        (tmp_path / name).write_text(f"{text}\n")
    return tmp_path


def seconds(text: str) -> float:
    return float(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def test_the_example_environment_names_the_files_and_what_they_read() -> None:
    lines = (DEPLOY / ".env.example").read_text().splitlines()
    given = dict(line.lstrip("# ").split("=", 1) for line in lines if re.match(r"(# )?[A-Z0-9_]+=", line))
    read = {variable for file in FILES for variable in variables((ROOT / file).read_text())}

    assert set(given) == {"COMPOSE_PROJECT_NAME", "COMPOSE_FILE", *read}
    assert set(given["COMPOSE_FILE"].split(":")) == set(FILES)


def test_every_variable_has_a_default_or_says_what_to_set() -> None:
    for match in (m for file in FILES for m in _VARIABLE.finditer((ROOT / file).read_text())):
        if not match["dollar"] and match["operator"] != ":-":
            assert match["operator"] == ":?", match[0]
            assert f"set {match['name']} in .env" in match["argument"], match[0]


def test_secrets_come_from_files_alone(tmp_path: Path) -> None:
    text = "".join((ROOT / file).read_text() for file in FILES)
    secret = re.compile(r"KEY|PASSWORD|SECRET|TOKEN")

    assert not [name for name in variables(text) if secret.search(name)]
    for name, service in services().items():
        given = service.get("environment", {})
        from_files = {value.rpartition("/")[2] for value in given.values() if value.startswith("/run/secrets/")}
        in_commands = set(re.findall(r"/run/secrets/(\w+)", str(service.get("entrypoint", ""))))
        in_scripts = set(re.findall(r"/run/secrets/(\w+)", start_script())) if name == "objects" else set()
        assert set(service.get("secrets", [])) == from_files | in_commands | in_scripts, name
        for variable, value in given.items():
            if secret.search(variable) and variable != "PENSTOCK_STORAGE_S3_ACCESS_KEY":  # a user's name
                assert value.startswith("/run/secrets/"), f"{name}: {variable}"


def test_the_secrets_are_made_once_and_are_closed_to_other_users_of_the_host(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    for name in ("init.sh", ".env.example"):
        shutil.copy(DEPLOY / name, tmp_path / "deploy" / name)
    folder = tmp_path / "deploy/secrets"

    def made() -> dict[str, str]:
        subprocess.run(["/bin/sh", tmp_path / "deploy/init.sh"], check=True, capture_output=True)
        return {file.name: file.read_text() for file in folder.iterdir()}

    first = made()

    assert made() == first
    assert set(first) == set(SECRETS) == set(compose()["secrets"])
    assert len(set(first.values())) == len(first)
    assert (tmp_path / ".env").read_text() == (DEPLOY / ".env.example").read_text()
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o644}, "containers read them as other users"
    load(None, {"API_KEYS": first["api_keys"].strip(), "PENSTOCK_WEBHOOKS_SECRETS": first["webhook_secrets"].strip()})


@pytest.mark.parametrize("name", PENSTOCK_SERVICES)
def test_the_settings_of_a_service_are_settings(name: str, secrets: Path) -> None:
    settings = load(None, environment_of(services()[name], secrets))

    assert settings.redis.url == "redis://redis:6379/0"
    assert settings.redis.password == SECRETS["redis_password"]
    assert not settings.storage.local
    assert settings.storage.s3_secret_key == SECRETS["s3_secret_key"]
    assert settings.storage.s3_public_endpoint == "http://127.0.0.1:9000"


def test_the_api_believes_what_the_proxy_says_of_clients_and_nobody_else() -> None:
    networks = {name: set(services()[name]["networks"]) for name in services()}
    (subnet,) = compose()["networks"]["front"]["ipam"]["config"]
    api = load(None, environment_of(services()["api"]))

    assert api.api.trusted_proxies == (resolved(subnet["subnet"], {}),)
    assert {name for name, of in networks.items() if "front" in of} == {"proxy", "api"}
    for header in ("Forwarded", "X-Forwarded-Port"):
        assert f"header_up -{header}\n" in (DEPLOY / "proxy/Caddyfile").read_text(), "a client may make it up"
    assert networks["proxy"] & networks["api"] == {"front"}, "the name `api` leads to one address alone"


def test_no_service_waits_for_another_to_be_well() -> None:
    """So that a faulty one takes none down at an `up -d`: API and workers wait for Redis and the storage themselves."""
    assert all(isinstance(service.get("depends_on", []), list) for service in services().values())


@pytest.mark.parametrize("name", PENSTOCK_SERVICES)
def test_every_variable_of_a_service_is_a_setting(name: str) -> None:
    """`load` leaves names alone that are not Penstock's, so a typing error in a short name would go unnoticed."""
    for variable in services()[name]["environment"]:
        assert variable.removesuffix("_FILE") in ALIASES or variable.startswith("PENSTOCK_"), variable


def test_a_service_listens_where_the_others_look_for_it() -> None:
    api = load(None, environment_of(services()["api"]))
    worker = load(None, environment_of(services()["worker"]))
    jobs = {job["job_name"]: job for job in prometheus()["scrape_configs"]}

    assert api.api.host == worker.telemetry.metrics_host == "0.0.0.0"
    assert services()["api"]["expose"] == [str(api.api.port), str(api.api.metrics_port)]
    assert f"port {{$API_PORT:{api.api.port}}}\n" in (DEPLOY / "proxy/Caddyfile").read_text()
    assert jobs["penstock-api"]["dns_sd_configs"][0]["port"] == api.api.metrics_port
    assert (api.telemetry.metrics_host, api.api.metrics, api.api.docs) == ("0.0.0.0", "auto", "auto")
    assert jobs["penstock-worker"]["dns_sd_configs"][0] == {
        "names": ["worker"],
        "type": "A",
        "port": worker.telemetry.metrics_port,
        "refresh_interval": "15s",
    }
    assert f":{api.api.port}/livez" in str(services()["api"]["healthcheck"]["test"])
    assert f":{worker.telemetry.metrics_port}/metrics" in str(services()["worker"]["healthcheck"]["test"])


def test_an_example_key_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        load(None, {"API_KEYS": "me:change-me-change-me"})


def test_ports_are_published_on_loopback_only() -> None:
    published = [port for service in services().values() for port in service.get("ports", [])]

    assert published
    assert [port for port in published if not re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port)] == []
    assert not any("ports" in services()[name] for name in ("api", "redis", "worker"))


@pytest.mark.parametrize("name", sorted(services()))
def test_a_service_has_a_health_check_with_a_shell_for_a_secret_alone(name: str) -> None:
    check = services()[name]["healthcheck"]

    assert check["test"][0] == ("CMD-SHELL" if name == "redis" else "CMD")
    assert seconds(check["timeout"]) <= seconds(check["interval"])
    assert check["start_period"]


@pytest.mark.parametrize("name", PENSTOCK_SERVICES)
def test_the_health_check_in_compose_is_the_one_in_the_image(name: str) -> None:
    (check,) = [i for i in stage(name) if i.word == "HEALTHCHECK"]

    assert json.loads(check.rest.partition("CMD ")[2]) == services()[name]["healthcheck"]["test"][1:]


def test_the_worker_is_healthy_by_a_metric_that_exists() -> None:
    (metric,) = re.findall(r"b'(\w+)'", str(services()["worker"]["healthcheck"]["test"]))

    assert metric in {instrument.exported for instrument in INSTRUMENTS.values()}


@pytest.mark.parametrize("name", sorted(services()))
def test_a_service_is_closed(name: str) -> None:
    service = services()[name]

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(re.match(r"/tmp:.*size=\d+m", mount) for mount in service["tmpfs"])
    assert service["mem_limit"]
    assert service["pids_limit"] > 0
    assert service["restart"] == "unless-stopped"
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc"} & set(service)
    assert "docker.sock" not in str(service)


def test_files_of_the_repository_are_mounted_read_only_and_exist() -> None:
    for service in services().values():
        for mount in service.get("volumes", []):
            source, _, rest = mount.partition(":")
            if source.startswith("."):
                assert (ROOT / source).exists(), source
                assert rest.endswith(":ro"), mount
            else:
                assert source in compose()["volumes"], source


def test_redis_is_reached_from_inside_only_and_asks_for_a_password() -> None:
    redis = services()["redis"]

    assert redis["networks"] == ["store"]
    assert compose()["networks"]["store"] == {"internal": True}
    assert "requirepass $$(cat /run/secrets/redis_password)\n" in redis["entrypoint"][2]


def test_no_image_floats_and_the_images_before_an_upgrade_keep_their_name() -> None:
    for file in FILES:
        for name, service in compose(file)["services"].items():
            image = service.get("image", "of:compose.yaml")
            if name in PENSTOCK_SERVICES and "image" in service:
                assert variables(image, ":-") == {"IMAGE_VERSION"}, image
                image = resolved(image, {})
            assert re.fullmatch(r"[\w./-]+:[\w.-]+", image), f"{name}: {image}"
            assert not image.endswith(":latest")


def test_the_spool_of_a_worker_has_the_room_that_it_is_told() -> None:
    worker = load(None, environment_of(services()["worker"])).worker
    (mount,) = [mount for mount in services()["worker"]["tmpfs"] if mount.startswith(f"{worker.spool_directory}:")]

    megabytes = re.search(r"size=(\d+)m", mount)
    assert megabytes is not None
    assert 0 < worker.spool_max_bytes < int(megabytes[1]) * 2**20


def test_the_file_for_tls_opens_the_proxy_and_nothing_else() -> None:
    override = compose("deploy/compose.tls.yaml")["services"]
    site = {"SITE": "images.example.com"}
    api = load(None, {name: resolved(value, site) for name, value in override["api"]["environment"].items()})

    assert set(override) == {"proxy", "api"}
    assert api.api.public_url == "https://images.example.com"
    assert [name for name, service in override.items() if "ports" in service] == ["proxy"]
    assert "{$SITE::8000} {" in (DEPLOY / "proxy/Caddyfile").read_text()
    assert resolved(override["proxy"]["environment"]["SITE"], site) == "images.example.com, :8000"
    assert "healthcheck" not in override["proxy"], "that of compose.yaml asks port 8000"


def test_a_worker_gets_the_time_it_may_take_to_stop() -> None:
    settings = load(None, environment_of(services()["worker"]))

    assert seconds(services()["worker"]["stop_grace_period"]) >= settings.worker.drain_s + 10
    assert seconds(services()["api"]["stop_grace_period"]) >= settings.api.drain_s + 5


def test_the_gpu_file_changes_the_worker_and_nothing_else() -> None:
    override = compose("deploy/compose.gpu.yaml")
    worker = override["services"]["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]

    assert list(override) == ["services"]
    assert list(override["services"]) == ["worker"]
    assert worker["build"] == {"target": "worker-cuda"}
    assert device["driver"] == "nvidia"
    assert {"gpu", "compute", "utility"} == set(device["capabilities"])  # utility: devices are found by nvidia-smi
    assert load(None, environment_of(worker)).worker.gpu_ids == "auto"


def test_the_limits_of_a_worker_with_gpus_are_a_base_and_a_part_for_each_gpu() -> None:
    text, worker = (DEPLOY / "compose.gpu.yaml").read_text(), compose("deploy/compose.gpu.yaml")["services"]["worker"]
    memory, threads = (resolved(worker[name], {}) for name in ("mem_limit", "pids_limit"))
    given = resolved(worker["mem_limit"], {"WORKER_MEM_LIMIT": "80g"})

    assert (memory, threads, given) == (f"{16 + 8}g", str(512 + 256), "80g")
    assert "16 GB + 8 GB for each worker (8 workers: 80g)" in text
    assert "512 threads + 256 for each worker (8 workers: 2560)" in text
    assert int(unit("worker")["TasksMax"][0]) >= 512 + 256 * 14


def test_commands_of_compose_are_commands() -> None:
    for name in PENSTOCK_SERVICES:
        assert "entrypoint" not in services()[name]
        for word in services()[name].get("command", [])[:1]:
            assert word in cli.commands


def start_script() -> str:
    return (DEPLOY / "objects/start.sh").read_text()


def test_the_bucket_that_is_made_is_the_bucket_that_is_used_and_its_user_may_use_no_other() -> None:
    storage = load(None, environment_of(services()["api"])).storage
    (user,) = json.loads(start_script().split("<<JSON\n")[1].split("\nJSON")[0])["identities"]

    assert f"s3.bucket.create -name {storage.s3_bucket}" in start_script()
    assert user["credentials"][0]["accessKey"] == storage.s3_access_key
    assert user["actions"]
    assert all(action.endswith(f":{storage.s3_bucket}") for action in user["actions"])


# --- Containerfile --------------------------------------------------------------------------------------------

INSTRUCTIONS = {
    *("FROM", "ARG", "ENV", "RUN", "COPY", "USER", "WORKDIR"),
    *("EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD", "LABEL"),
}
"""Those used; ADD and VOLUME are not among them on purpose."""


class Instruction:
    def __init__(self, line: str) -> None:
        self.word, _, self.rest = line.partition(" ")
        self.rest = self.rest.strip()


@cache
def stages() -> dict[str, list[Instruction]]:
    """Name -> instructions, the FROM first. Comments go, continued lines are joined."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "Containerfile").read_text(), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    found: dict[str, list[Instruction]] = {}
    for instruction in map(Instruction, lines):
        if instruction.word == "FROM":
            found[instruction.rest.partition(" AS ")[2]] = []
        list(found.values())[-1].append(instruction)
    return found


def stage(name: str) -> list[Instruction]:
    """All instructions in force in a stage, those of the stages it is built from first."""
    own = stages()[name]
    parent = own[0].rest.split()[0]
    return (stage(parent) if parent in stages() else []) + own


def image_environment(name: str) -> dict[str, str]:
    pairs = " ".join(i.rest for i in stage(name) if i.word == "ENV")
    return dict(pair.split("=", 1) for pair in pairs.split())


def test_the_containerfile_has_known_instructions_only() -> None:
    assert {i.word for instructions in stages().values() for i in instructions} <= INSTRUCTIONS


def test_the_containerfile_needs_no_buildkit() -> None:
    text = (ROOT / "Containerfile").read_text()

    for word in ("--mount", "--link", "<<", "# syntax", "--chmod", "--parents"):
        assert word not in text


def test_every_stage_is_named_and_built_from_a_fixed_image_or_another_stage() -> None:
    for name, instructions in stages().items():
        parent = instructions[0].rest.split()[0]
        assert name
        assert parent in stages() or re.fullmatch(r"[\w./-]+:\d[\w.-]+", parent), parent


def test_stages_and_files_that_are_copied_exist() -> None:
    for instructions in stages().values():
        for copy in (i for i in instructions if i.word == "COPY"):
            *sources, _ = copy.rest.split()
            if sources[0].startswith("--from="):
                assert sources[0].removeprefix("--from=") in stages()
            else:
                assert [s for s in sources if not (ROOT / s).exists()] == []


@pytest.mark.parametrize("name", PENSTOCK_SERVICES)
def test_an_image_runs_as_nobody_in_particular(name: str) -> None:
    words = [i.word for i in stages()[name]]
    user = [i.rest for i in stages()[name] if i.word == "USER"][-1]

    assert user == "10001:10001"
    assert "RUN" not in words
    assert words.index("USER") < words.index("ENTRYPOINT")


@pytest.mark.parametrize("name", PENSTOCK_SERVICES)
def test_an_image_starts_a_command_that_exists_and_stops_by_sigterm(name: str) -> None:
    last = {i.word: i.rest for i in stage(name)}

    assert json.loads(last["ENTRYPOINT"]) == ["penstock"]
    assert json.loads(last["CMD"]) == [name]
    assert name in cli.commands
    assert last["STOPSIGNAL"] == "SIGTERM"


@pytest.mark.parametrize("name", PENSTOCK_SERVICES)
def test_the_environment_of_an_image_is_made_of_settings(name: str) -> None:
    environment = image_environment(name)
    settings = load(None, environment)

    assert settings.api.host == settings.telemetry.metrics_host == "0.0.0.0"
    assert environment["TMPDIR"] == environment["HOME"] == "/tmp"
    assert environment["ORT_DISABLE_TELEMETRY"] == environment["PYTHONUNBUFFERED"] == "1"
    assert not {name for name in environment if "KEY" in name or "SECRET" in name}


def test_an_image_exposes_the_port_it_listens_on() -> None:
    exposed = {name: [i.rest for i in stages()[name] if i.word == "EXPOSE"] for name in PENSTOCK_SERVICES}
    metrics_port = load(None, image_environment("api")).api.metrics_port

    assert exposed == {
        "api": [f"{Settings().api.port} {metrics_port}"],
        "worker": [str(Settings().telemetry.metrics_port)],
    }


@pytest.mark.parametrize(
    ("target", "lock", "requirement"),
    [
        ("api", "api.txt", "penstock-server"),
        ("worker-cpu", "worker-cpu.txt", '"penstock-server[cpu]" ${MODEL_PACKAGES}'),
        ("worker-cuda", "worker-gpu.txt", '"penstock-server[gpu]" ${MODEL_PACKAGES}'),
    ],
)
def test_each_image_has_the_runtime_of_its_name_by_the_lock_of_it(target: str, lock: str, requirement: str) -> None:
    runs = [i.rest for i in stages()[f"{target}-install"] if i.word == "RUN"]
    copies = [i.rest for i in stages()[target] if i.word == "COPY"]

    assert runs[0] == f"pip wheel --wheel-dir /wheels --require-hashes -r {lock}"
    assert runs[-1] == f"sh install.sh {requirement}"
    assert copies == [f"--from={target}-install /layer /"]
    assert (DEPLOY / "requirements" / lock).exists()


def test_compose_builds_the_images_for_what_they_run_on() -> None:
    targets = {name: services()[name]["build"]["target"] for name in PENSTOCK_SERVICES}
    gpu = compose("deploy/compose.gpu.yaml")["services"]["worker"]["build"]

    assert targets == {"api": "api", "worker": "worker-cpu"}
    assert {*targets.values(), gpu["target"]} <= set(stages())


def test_the_place_for_models_of_ones_own_is_a_setting_of_the_image_and_a_mount_of_compose() -> None:
    copies = [i.rest for name in ("own-models", "worker") for i in stages()[name] if i.word == "COPY"]
    settings = load(None, image_environment("worker"))

    assert copies == ["deploy/models /layer/models", "--from=own-models /layer /"]
    assert settings.models.modules == ("/models",)
    assert settings.models.directory == "/models/repository"
    assert "./deploy/models:/models:ro" in services()["worker"]["volumes"]
    assert files_of(str(DEPLOY / "models")) == [], "none comes with Penstock"


def test_models_that_come_from_the_storage_have_room_that_outlives_a_container() -> None:
    cache = load(None, image_environment("worker")).worker.cache_dir
    (made,) = [i.rest for i in stages()["base"] if i.word == "RUN"]

    assert f"model-cache:{cache}" in services()["worker"]["volumes"]
    assert f"install -d -o 10001 -g 10001 {cache}" in made, "the user of the image may write to a new volume"


def test_an_image_installs_wheels_of_known_digests_and_never_looks_up_its_own_name() -> None:
    commands = [part for stage in stages().values() for i in stage if i.word == "RUN" for part in i.rest.split("&&")]
    commands += (DEPLOY / "install.sh").read_text().splitlines()
    fetching = [one for one in commands if re.search(r"\bpip\b.* ?(install|wheel) ", one)]
    of_others = [one for one in fetching if one.startswith("test -z")]
    known = ("--require-hashes -r", "--no-index --find-links /wheels", "--no-deps --no-build-isolation .")

    assert len(fetching) == 8
    assert [one for one in fetching if not any(way in one for way in known)] == of_others
    assert len(of_others) == 2


@cache
def constraints() -> dict[str, str]:
    lines = (DEPLOY / "constraints-gpu.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_tested_runtime_is_one_that_the_package_takes() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["gpu"]

    for requirement in map(Requirement, wanted):
        assert requirement.specifier.contains(constraints()[requirement.name]), requirement


def test_what_makes_code_for_the_card_is_of_the_cuda_that_the_oldest_driver_reads() -> None:
    for name in ("nvidia-cuda-runtime", "nvidia-cuda-nvrtc", "nvidia-nvjitlink"):
        assert constraints()[name].startswith("13.0."), name


# --- the systemd units ----------------------------------------------------------------------------------------

UNITS = ("api", "worker")


@cache
def unit(name: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / f"penstock-{name}.service").read_text().splitlines():
        if line and line[0] not in "#[":
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def environment_of_unit(name: str) -> dict[str, str]:
    return dict(pair.split("=", 1) for line in unit(name)["Environment"] for pair in line.split())


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_a_command_that_exists(name: str) -> None:
    (start,) = unit(name)["ExecStart"]

    assert start.split()[1:] == [name]
    assert name in cli.commands


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_gives_each_secret_as_a_file_and_names_settings_alone(name: str, tmp_path: Path) -> None:
    files = {variable: value for variable, value in environment_of_unit(name).items() if variable.endswith("_FILE")}
    known = {f"{env_name(*secret)}_FILE" for secret in SECRET_SETTINGS} | {f"{alias}_FILE" for alias in ALIASES}

    assert files.keys() <= known
    assert sorted(value.removeprefix("%d/") for value in files.values()) == sorted(
        credential.partition(":")[0] for credential in unit(name)["LoadCredential"]
    )
    for variable in environment_of_unit(name).keys() - files.keys():
        assert not variable.startswith("PENSTOCK_") or load(None, {variable: environment_of_unit(name)[variable]})


def test_the_environment_of_the_unit_of_a_worker_is_made_of_settings() -> None:
    pairs = environment_of_unit("worker")

    settings = load(None, {name: value for name, value in pairs.items() if not name.endswith("_FILE")})

    assert settings.telemetry.metrics_port == Settings().telemetry.metrics_port
    assert pairs["ORT_DISABLE_TELEMETRY"] == "1"


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_not_started_again_with_a_wrong_setting(name: str) -> None:
    assert unit(name)["RestartPreventExitStatus"] == [str(EXIT_CONFIGURATION)]
    assert unit(name)["KillMode"] == ["mixed"]
    assert unit(name)["KillSignal"] == ["SIGTERM"]
    assert unit(name)["NoNewPrivileges"] == ["yes"]
    assert unit(name)["Type"] == ["notify"], "it says itself when it is ready, and that it lives"


def test_a_unit_lets_its_service_stop_in_its_own_time() -> None:
    settings = Settings()

    assert float(unit("api")["TimeoutStopSec"][0]) > settings.api.linger_s + settings.api.drain_s
    assert float(unit("worker")["TimeoutStopSec"][0]) > settings.worker.drain_s + 10


# --- Redis ----------------------------------------------------------------------------------------------------


def test_redis_keeps_what_it_is_given() -> None:
    lines = (DEPLOY / "redis.conf").read_text().splitlines()
    conf = dict(line.split(" ", 1) for line in lines if line and not line.startswith("#"))

    assert conf["appendonly"] == "yes"
    assert conf["appendfsync"] == "everysec"
    assert conf["maxmemory-policy"] == "noeviction"
    assert conf["dir"] == "/data"
    assert not {"requirepass", "masterauth"} & set(conf)
    assert float(conf["maxmemory"].removesuffix("gb")) < float(services()["redis"]["mem_limit"].removesuffix("g"))


# --- Prometheus and Grafana -----------------------------------------------------------------------------------


@cache
def prometheus() -> dict[str, Any]:
    return yaml.safe_load((DEPLOY / "prometheus.yml").read_text())


def test_prometheus_loads_the_alerts_and_watches_both_services() -> None:
    watched = {job["job_name"] for job in prometheus()["scrape_configs"]}
    jobs = set(re.findall(r'job="([\w-]+)"', (DEPLOY / "alerts.yml").read_text()))

    assert prometheus()["rule_files"] == ["alerts.yml"]
    assert jobs <= watched
    assert watched >= {"penstock-api", "penstock-worker"}


def test_grafana_finds_its_data_source_and_its_dashboards() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/penstock.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((DEPLOY / "grafana/provisioning/dashboards/penstock.yml").read_text())["providers"]
    mounts = dict(mount.split(":")[:2] for mount in services()["grafana"]["volumes"])
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]

    assert source["url"] == "http://prometheus:9090"
    assert source["jsonData"]["timeInterval"] == prometheus()["global"]["scrape_interval"]
    assert provider["options"]["path"] == mounts["./deploy/grafana/dashboards"]
    assert home == f"{provider['options']['path']}/penstock.json"
    assert mounts["./deploy/grafana/provisioning"] == "/etc/grafana/provisioning"


# --- what people are told to do -----------------------------------------------------------------------------------

TOLD = [
    *ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *DEPLOY.rglob("*.*"),
    ROOT / "Containerfile", ROOT / "compose.yaml", ROOT / "justfile", ROOT / "pyproject.toml",
    *(ROOT / "src").rglob("*.py"),
]  # fmt: skip
"""Pages, files and messages that say what to type."""


def told() -> Iterator[tuple[str, str]]:
    for path in TOLD:
        if path.is_file():
            for number, line in enumerate(path.read_text().splitlines(), 1):
                yield f"{path.relative_to(ROOT)}:{number}", line


def test_nobody_is_told_to_install_the_package_of_another_project() -> None:
    """`penstock` on PyPI is not this one."""
    other = re.compile(r"(pip3? (install|download|wheel).*[ '\"]penstock(?!-server)[\s'\"=<>\[]|\bpenstock\[)")

    assert [(where, line) for where, line in told() if other.search(line)] == []


def test_no_example_sends_the_key_in_a_header_that_is_passed_on_to_another_host() -> None:
    """Clients that follow a redirect to the bucket drop `Authorization`, and no other header."""
    assert [(where, line) for where, line in told() if re.search(r"-H ?['\"]x-api-key", line, re.IGNORECASE)] == []


def test_no_command_names_a_volume_that_may_not_exist() -> None:
    """`docker run -v name:/path` makes one that is missing, so that an empty one would be backed up."""
    named = re.compile(r"docker.* -v \w[\w.-]*:/")

    assert [(where, line) for where, line in told() if named.search(line)] == []
