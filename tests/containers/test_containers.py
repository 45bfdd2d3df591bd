"""The same files, judged by the programs that will read them; each test says what is missing where it cannot run."""

import json
import os
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from penstock.local.redis_server import find_server
from tests.containers.programs import DEPLOY, ROOT, VERSIONS, compose, compose_of, passes, program, run

# --- Prometheus -----------------------------------------------------------------------------------------------


def test_promtool_accepts_the_configuration_and_the_alerts() -> None:
    promtool = program("promtool")

    passes(promtool, "check", "config", str(DEPLOY / "prometheus.yml"))
    passes(promtool, "check", "rules", str(DEPLOY / "alerts.yml"))


def test_alerts_fire_when_they_should_and_not_before() -> None:
    passes(program("promtool"), "test", "rules", str(Path(__file__).with_name("alerts_test.yml")))


def test_promtool_accepts_the_expressions_of_the_dashboards(tmp_path: Path) -> None:
    promtool = program("promtool")
    boards = [json.loads(path.read_text()) for path in (DEPLOY / "grafana/dashboards").glob("*.json")]
    expressions = [target["expr"] for board in boards for panel in board["panels"] for target in panel["targets"]]
    for variable, value in {"$__rate_interval": "1m", "$__range": "3h", "$model": ".*"}.items():
        expressions = [expression.replace(variable, value) for expression in expressions]
    rules = [{"record": f"panel:{n}", "expr": expression} for n, expression in enumerate(expressions)]
    file = tmp_path / "rules.yml"  # JSON is YAML
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))

    passes(promtool, "check", "rules", str(file))


# --- Compose, Redis -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("more", [[], ["deploy/compose.gpu.yaml"], ["deploy/compose.tls.yaml"]])
def test_compose_accepts_the_files(version: str, more: list[str], checkout: Path) -> None:
    names = [part for file in ["compose.yaml", *more] for part in ("-f", str(checkout / file))]
    command = compose_of(version) or pytest.skip(f"Compose {version} is not installed")

    passes(*command, *names, "config", "-q", SITE="images.example.com")


def test_compose_refuses_a_proxy_for_nobody_and_says_what_to_set(checkout: Path) -> None:
    files = ["-f", str(checkout / "compose.yaml"), "-f", str(checkout / "deploy/compose.tls.yaml")]

    refused = run(*compose(), *files, "config", "-q")

    assert refused.returncode != 0
    assert "set SITE in .env" in refused.stderr


def test_caddy_accepts_the_file_of_the_proxy() -> None:
    caddy = program("caddy")

    passes(caddy, "validate", "--adapter", "caddyfile", "--config", str(DEPLOY / "proxy/Caddyfile"))


def test_a_redis_server_accepts_the_configuration_and_hears_the_signal_to_stop(tmp_path: Path) -> None:
    lines = (DEPLOY / "redis.conf").read_text().splitlines()
    lines = [line for line in lines if line.split(" ")[0] not in ("dir", "port", "bind")]
    conf, password = tmp_path / "redis.conf", tmp_path / "password"
    conf.write_text("\n".join([*lines, f"dir {tmp_path}", "port 0", f"unixsocket {tmp_path}/s", ""]))
    password.write_text("0123456789abcdef\n")
    *shell, script = yaml.safe_load((ROOT / "compose.yaml").read_text())["services"]["redis"]["entrypoint"]
    places = {
        "$$": "$",
        "/run/secrets/redis_password": password,
        "/etc/penstock/redis.conf": conf,
        "valkey-server": find_server(),
    }
    for inside, here in places.items():
        script = script.replace(inside, str(here))

    with subprocess.Popen([*shell, script], stdout=subprocess.PIPE, text=True, start_new_session=True) as server:
        try:
            said = ""
            while "eady to accept connections" not in said:  # each version in words of its own
                line = server.stdout.readline() if server.stdout else ""
                assert line, said
                said += line
            server.terminate()
            assert server.wait(60) == 0
        finally:
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)

    assert (tmp_path / "appendonlydir").is_dir()
