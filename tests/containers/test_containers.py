"""The same files, judged by the programs that will read them; each test says what is missing where it cannot run."""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.request import urlopen

import pytest

from penstock.local.redis_server import find_server

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
BASE_IMAGE = "python:3.12-slim-bookworm"

ENV = """\
API_KEYS=me:0123456789abcdef0123456789abcdef
REDIS_PASSWORD=0123456789abcdef
S3_SECRET_KEY=fedcba9876543210
MINIO_ROOT_PASSWORD=0f1e2d3c4b5a6978
GRAFANA_PASSWORD=89abcdef01234567
"""


def run(*argv: str, timeout_s: float = 60, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT, **options)


def passes(*argv: str, timeout_s: float = 60) -> str:
    done = run(*argv, timeout_s=timeout_s)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return done.stdout


def program(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed")


# --- Prometheus -----------------------------------------------------------------------------------------------


def test_promtool_accepts_the_configuration_and_the_alerts() -> None:
    promtool = program("promtool")

    passes(promtool, "check", "config", str(DEPLOY / "prometheus.yml"))
    passes(promtool, "check", "rules", str(DEPLOY / "alerts.yml"))


def test_alerts_fire_when_they_should_and_not_before() -> None:
    passes(program("promtool"), "test", "rules", str(Path(__file__).with_name("alerts_test.yml")))


def test_promtool_accepts_the_expressions_of_the_dashboard(tmp_path: Path) -> None:
    promtool = program("promtool")
    dashboard = json.loads((DEPLOY / "grafana/dashboards/penstock.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    for variable, value in {"$__rate_interval": "1m", "$__range": "3h", "$model": ".*"}.items():
        expressions = [expression.replace(variable, value) for expression in expressions]
    rules = [{"record": f"panel:{n}", "expr": expression} for n, expression in enumerate(expressions)]
    file = tmp_path / "rules.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))

    passes(promtool, "check", "rules", str(file))


# --- Compose, systemd, Redis ----------------------------------------------------------------------------------


def compose() -> list[str]:
    """Compose 2, else 1; neither needs an engine to read files."""
    if shutil.which("docker") and run("docker", "compose", "version").returncode == 0:
        return ["docker", "compose"]
    return [program("docker-compose")]


@pytest.mark.parametrize("files", [["compose.yaml"], ["compose.yaml", "deploy/compose.gpu.yaml"]])
def test_compose_accepts_the_files(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "env").write_text(ENV)
    names = [part for file in files for part in ("-f", file)]

    passes(*compose(), "--env-file", str(tmp_path / "env"), *names, "config", "-q")


def test_compose_refuses_the_example_environment_and_says_what_to_set() -> None:
    command = compose()
    environ = {name: value for name, value in os.environ.items() if f"{name}=" not in ENV}

    refused = run(*command, "--env-file", "deploy/.env.example", "-f", "compose.yaml", "config", "-q", env=environ)

    assert refused.returncode != 0
    assert "openssl rand -hex" in refused.stderr


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    verify = program("systemd-analyze")
    text = (DEPLOY / "penstock-worker.service").read_text()
    unit = tmp_path / "penstock-worker.service"
    unit.write_text(text.replace("/opt/penstock/bin/penstock", shutil.which("true") or "/bin/true"))

    done = run(verify, "verify", str(unit))

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


def test_a_redis_server_accepts_the_configuration(tmp_path: Path) -> None:
    lines = (DEPLOY / "redis.conf").read_text().splitlines()
    lines = [line for line in lines if line.split(" ")[0] not in ("dir", "port", "bind")]
    conf = tmp_path / "redis.conf"
    conf.write_text("\n".join([*lines, f"dir {tmp_path}", "port 0", f"unixsocket {tmp_path}/s", ""]))

    with subprocess.Popen([str(find_server()), str(conf)], stdout=subprocess.PIPE, text=True) as server:
        try:
            said = ""
            while "eady to accept connections" not in said:  # each version in words of its own
                line = server.stdout.readline() if server.stdout else ""
                assert line, said
                said += line
        finally:
            server.terminate()

    assert (tmp_path / "appendonlydir").is_dir()


def test_the_bucket_is_made_once_and_the_step_may_be_repeated(tmp_path: Path) -> None:
    """With a stand-in for `mc` that refuses, as the real one does, to attach a policy twice."""
    mc = tmp_path / "mc"
    mc.write_text(
        "#!/bin/sh\n"
        'echo "$*" >> "$LOG"\n'
        'case "$*" in\n'
        '"admin policy attach"*) [ ! -e "$LOG.attached" ] && touch "$LOG.attached" ;;\n'
        '"admin user info"*) printf "AccessKey: penstock\\nStatus: enabled\\nPolicyName: "\n'
        '  [ ! -e "$LOG.attached" ] || printf penstock\n'
        '  printf "\\nMemberOf: []\\n" ;;\n'
        "esac\n"
    )
    mc.chmod(0o755)
    log = tmp_path / "log"
    environ = {"PATH": f"{tmp_path}:/bin:/usr/bin", "S3_SECRET_KEY": "fedcba9876543210", "LOG": str(log)}

    for _ in range(2):
        done = run("/bin/sh", str(DEPLOY / "minio/create-bucket.sh"), env=environ)
        assert done.returncode == 0, done.stderr

    said = log.read_text().splitlines()
    assert said[0] == "mb --ignore-existing store/penstock"
    assert said.count("admin policy attach store penstock --user penstock") == 1


# --- images ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def engine() -> str:
    docker = program("docker")
    done = run(docker, "version", "--format", "{{.Server.Version}}")
    if done.returncode:
        pytest.skip(f"no container engine answers: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    if run(docker, "image", "inspect", BASE_IMAGE).returncode:
        pulled = run(docker, "pull", BASE_IMAGE, timeout_s=300)
        if pulled.returncode:
            pytest.skip(f"{BASE_IMAGE} is not here and cannot be pulled: {pulled.stderr.strip()[-200:]}")
    return docker


@pytest.fixture(scope="module", params=["api", "worker"])
def image(request: pytest.FixtureRequest, engine: str) -> tuple[str, str]:
    """(target, tag) of an image just built."""
    target, tag = request.param, f"penstock-{request.param}:under-test"
    passes(engine, "build", "-f", "Containerfile", "--target", target, "-t", tag, ".", timeout_s=900)
    return target, tag


def hardened(engine: str, *arguments: str) -> list[str]:
    closed = ["--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    return [engine, "run", "--rm", *closed, *arguments]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_an_image_runs_closed_and_has_what_it_should(image: tuple[str, str], engine: str) -> None:
    target, tag = image
    question = "import importlib.util as u, os; print(os.getuid(), bool(u.find_spec('onnxruntime')))"

    answer = passes(*hardened(engine, "--entrypoint", "python", tag, "-c", question))
    passes(*hardened(engine, tag, "config"))

    assert answer.split() == ["10001", str(target == "worker")]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_pushed_layers_hold_no_build_tools(image: tuple[str, str], engine: str) -> None:
    _, tag = image
    ask = hardened(engine, "--entrypoint", "python", tag, "-c", "import os; print(os.path.exists('/wheels'))")

    assert passes(*ask).strip() == "False"


@pytest.fixture(scope="module")
def stack(engine: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The whole of compose.yaml, running; ports of this machine as published."""
    command = compose()
    file = tmp_path_factory.mktemp("stack") / "env"
    file.write_text(ENV)
    whole = [*command, "--env-file", str(file), "-p", "penstock-test", "-f", "compose.yaml"]
    pulled = run(*whole, "pull", "--quiet", "redis", "minio", timeout_s=600)
    if pulled.returncode:
        pytest.skip(f"an image cannot be pulled: {pulled.stderr.strip()[-300:]}")
    try:
        passes(*whole, "up", "-d", "--build", timeout_s=1200)
        yield
    finally:
        run(*whole, "down", "-v", "--timeout", "60", timeout_s=180)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_the_stack_becomes_ready(stack: None) -> None:
    deadline, answer = time.monotonic() + 240, ""
    while time.monotonic() < deadline and '"workers":1' not in answer:
        try:
            with urlopen("http://127.0.0.1:8000/readyz", timeout=5) as response:
                answer = response.read().decode()
        except OSError as error:
            answer = type(error).__name__
        time.sleep(1)

    assert '"workers":1' in answer
