"""Settings: one tree, from a file and the environment; a wrong value is one line that says what to change."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from penstock.cli.context import as_toml, by_section, masked
from penstock.core import quotas
from penstock.core.quotas import Quotas
from penstock.errors import ConfigurationError
from penstock.settings import (
    ALIASES,
    ClientEnvironment,
    Settings,
    clean_environment,
    client_environment,
    environment_of,
    load,
    operating,
    sections,
)

ROOT = Path(__file__).parents[2]


def test_the_example_file_is_exactly_the_defaults() -> None:
    assert load(ROOT / "config.example.toml", {}) == Settings()


def test_the_example_file_names_every_setting() -> None:
    text = (ROOT / "config.example.toml").read_text()

    for section, values in msgspec.to_builtins(Settings()).items():
        assert f"[{section}]" in text
        for field in values:
            assert f"\n{field} = " in text, f"{section}.{field}"


def test_the_example_file_explains_the_settings_in_the_words_of_the_code() -> None:
    text = " ".join((ROOT / "config.example.toml").read_text().replace("\n# ", " ").split())

    for words in explanations():
        assert words in text


def explanations() -> Iterator[str]:
    """The docstrings of the sections, and those below their fields."""
    for section in [
        part for module in (sections, operating, quotas) for part in ast.parse(inspect.getsource(module)).body
    ]:
        if isinstance(section, ast.ClassDef) and section.name not in ("Section", "Settings"):
            for node in section.body:
                if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                    yield " ".join(str(node.value.value).split()).removesuffix(".")


def test_every_setting_survives_the_way_through_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text(
        '[api]\nport = 1234\nkeys = ["a:0123456789abcdef", "fedcba9876543210"]\n'
        "[limits]\nallow_http = false\nports = [80, 8080]\n[storage]\nlocal = false\n[queue]\nretry_base_s = 0.5\n"
        "[quotas]\ntasks_waiting = 9\n[quotas.tenants.acme]\ntasks_running = 2\n"
    )
    settings = load(file, {})

    assert load(None, environment_of(settings)) == settings
    assert settings.limits.ports == (80, 8080)


@pytest.mark.parametrize(
    ("name", "value", "section", "field", "expected"),
    [
        ("API_KEYS", "a:0123456789abcdef, fedcba9876543210", "api", "keys", ("a:0123456789abcdef", "fedcba9876543210")),
        ("RATE_LIMIT_PER_MINUTE", "7", "api", "rate_limit_per_minute", 7),
        ("GPU_IDS", "0,1", "worker", "gpu_ids", "0,1"),
        ("GPU_IDS", "GPU-5d5b, MIG-c6d4f1ef-42e4,1x2", "worker", "gpu_ids", "GPU-5d5b, MIG-c6d4f1ef-42e4,1x2"),
        ("MAX_RETRIES", "9", "queue", "max_retries", 9),
        ("USE_LOCAL_STORAGE", "false", "storage", "local", False),
        ("REDIS_URL", "redis://example:1/2", "redis", "url", "redis://example:1/2"),
    ],
)
def test_the_short_names_work(name: str, value: str, section: str, field: str, expected: object) -> None:
    settings = load(None, {name: value})

    assert name in ALIASES
    assert getattr(getattr(settings, section), field) == expected


@pytest.mark.parametrize(
    ("name", "section", "field", "expected"),
    [
        ("API_KEYS_FILE", "api", "keys", ("a:0123456789abcdef", "b:fedcba9876543210")),
        ("PENSTOCK_API_KEYS_FILE", "api", "keys", ("a:0123456789abcdef", "b:fedcba9876543210")),
        ("PENSTOCK_REDIS_PASSWORD_FILE", "redis", "password", "a:0123456789abcdef,b:fedcba9876543210"),
    ],
)
def test_a_secret_is_read_from_the_file_that_a_variable_names(
    name: str, section: str, field: str, expected: object, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text("a:0123456789abcdef,b:fedcba9876543210\n")

    settings = load(None, {name: str(tmp_path / "secret")})

    assert getattr(getattr(settings, section), field) == expected


def test_a_secret_that_is_given_twice_or_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL_FILE and REDIS_URL are both set"):
        load(None, {"REDIS_URL": "redis://here", "REDIS_URL_FILE": str(tmp_path)})
    with pytest.raises(ConfigurationError, match=r"API_KEYS_FILE: .* cannot be read"):
        load(None, {"API_KEYS_FILE": str(tmp_path / "missing")})
    with pytest.raises(ConfigurationError, match="PENSTOCK_API_PORT_FILE is not a setting"):
        load(None, {"PENSTOCK_API_PORT_FILE": str(tmp_path)})


def test_the_environment_wins_over_the_file_and_the_long_name_over_the_short(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("[queue]\nmax_retries = 1\nmax_crashes = 7\n")

    settings = load(file, {"MAX_RETRIES": "2", "PENSTOCK_QUEUE_MAX_RETRIES": "5"})

    assert settings.queue.max_retries == 5
    assert settings.queue.max_crashes == 7


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({"PENSTOCK_QUOTAS_TASKS_WAITING": "-1"}, "quotas.tasks_waiting"),
        ({"PENSTOCK_QUOTAS_TENANTS": "acme"}, "PENSTOCK_QUOTAS_TENANTS"),
        ({"PENSTOCK_QUOTAS_TENANTS": '{"acme": {"tasks": 1}}'}, "quotas.tenants"),
        ({"PENSTOCK_QUOTAS_TENANTS": '{"a b": {}}'}, "quotas.tenants"),
        ({"PENSTOCK_API_PORT": "70000"}, "api.port"),
        ({"PENSTOCK_API_PORT": "many"}, "api.port"),
        ({"PENSTOCK_API_PROT": "1"}, "PENSTOCK_API_PROT"),
        ({"USE_LOCAL_STORAGE": "maybe"}, "USE_LOCAL_STORAGE"),
        ({"API_KEYS": "short"}, "at least 16"),
        ({"API_KEYS": "me:change-me-change-me"}, "example"),
        ({"PENSTOCK_API_PUBLIC_URL": "images.example.com"}, "api.public_url"),
        ({"PENSTOCK_API_PUBLIC_URL": "https://images.example.com/?x"}, "api.public_url"),
        ({"PENSTOCK_API_TRUSTED_PROXIES": "10.0.0.0/8,proxy"}, "api.trusted_proxies"),
        ({"PENSTOCK_API_CORS_ORIGINS": "*"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "https://*.example.com"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "null"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "shop.example.com"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "https://shop.example.com/"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "https://shop.example.com/page"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "https://Shop.example.com"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "https://shop.example.com:443"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "http://localhost:80"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "https://me@shop.example.com"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "http://localhost:05173"}, "api.cors_origins"),
        ({"PENSTOCK_API_CORS_ORIGINS": "file://here"}, "api.cors_origins"),
        ({"PENSTOCK_API_KEEP_ALIVE_S": "0"}, "api.keep_alive_s"),
        ({"GPU_IDS": "first"}, "worker.gpu_ids"),
        ({"GPU_IDS": "0x0"}, "worker.gpu_ids"),
        ({"GPU_IDS": "GPU-"}, "worker.gpu_ids"),
        ({"GPU_IDS": "0, 0"}, "for two workers on GPU 0 write 0x2"),
        ({"GPU_IDS": "1x2,1"}, "worker.gpu_ids"),
        ({"PENSTOCK_QUEUE_RETRY_CAP_S": "0.1"}, "queue.retry_cap_s"),
        ({"PENSTOCK_WEBHOOKS_SECRETS": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0"}, "webhooks.secrets"),
        ({"PENSTOCK_WEBHOOKS_SECRETS": "whsec_c2hvcnQ="}, "webhooks.secrets"),
        ({"PENSTOCK_WEBHOOKS_SECRETS": "whsec_no base64, nor this"}, "webhooks.secrets"),
        ({"PENSTOCK_WEBHOOKS_RETRIES_S": "5,-1"}, "webhooks.retries_s"),
        ({"PENSTOCK_REDIS_NAMESPACE": "a{b}"}, "redis.namespace"),
        ({"PENSTOCK_TELEMETRY_LOG_LEVEL": "LOUD"}, "telemetry.log_level"),
        ({"PENSTOCK_WORKER_PRECISION": "fp8"}, "worker.precision"),
        ({"PENSTOCK_WORKER_TENSORRT": "true"}, "worker.engine_cache_dir"),
        (
            {
                "PENSTOCK_WORKER_TENSORRT": "true",
                "PENSTOCK_WORKER_ENGINE_CACHE_DIR": "/cache",
                "PENSTOCK_WORKER_CUDA_GRAPHS": "true",
            },
            "worker.cuda_graphs",
        ),
    ],
)
def test_a_wrong_value_is_refused_in_one_line_that_names_it(environ: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        load(None, environ)

    assert says in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [("[api]\nprot = 1\n", "prot"), ("[nonsense]\n", "nonsense"), ("not toml", "not TOML"), (None, "does not exist")],
)
def test_a_wrong_file_is_refused(tmp_path: Path, text: str | None, says: str) -> None:
    file = tmp_path / "config.toml"
    if text is not None:
        file.write_text(text)

    with pytest.raises(ConfigurationError, match=says):
        load(file, {})


def test_the_processes_of_the_api_divide_the_memory_of_bodies_but_each_may_have_two_of_the_longest() -> None:
    limits = {"PENSTOCK_LIMITS_MAX_BODIES_BYTES": "1000", "PENSTOCK_LIMITS_MAX_BODY_BYTES": "100"}
    shares = {n: load(None, limits | {"PENSTOCK_API_PROCESSES": str(n)}).bodies_of_process for n in (1, 2, 5, 20)}

    assert shares == {1: 1000, 2: 500, 5: 200, 20: 200}


def test_quotas_of_a_tenant_stand_over_those_of_all() -> None:
    settings = load(
        None,
        {"PENSTOCK_QUOTAS_TASKS_WAITING": "9", "PENSTOCK_QUOTAS_TENANTS": '{"acme": {"tasks_running": 2}, "b.c": {}}'},
    ).quotas

    assert settings.of("acme") == Quotas(tasks_waiting=9, tasks_running=2)
    assert settings.of("b.c") == settings.of("unheard-of") == Quotas(tasks_waiting=9)


def test_quotas_that_are_shown_can_be_read_again(tmp_path: Path) -> None:
    shown = tmp_path / "shown.toml"
    settings = load(None, {"PENSTOCK_QUOTAS_TENANTS": '{"acme.eu": {"tasks_running": 2}}'})

    shown.write_text(as_toml(masked(by_section(settings))))

    assert load(shown, {}).quotas == settings.quotas


def test_secrets_are_masked_when_settings_are_shown(tmp_path: Path) -> None:
    canary = "canary-0123456789abcdef"
    settings = load(
        None,
        {
            "API_KEYS": canary,
            "REDIS_URL": f"redis://:{canary}@h/0",
            "PENSTOCK_STORAGE_S3_SECRET_KEY": canary,
            "PENSTOCK_WEBHOOKS_SECRETS": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        },
    )

    assert canary not in as_toml(masked(by_section(settings)))
    assert "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw" not in as_toml(masked(by_section(settings)))


def test_children_inherit_no_setting_but_those_handed_to_them() -> None:
    environ = {"PATH": "/bin", "API_KEYS": "x", "API_KEYS_FILE": "y", "PENSTOCK_API_PORT": "1"}

    assert clean_environment(environ) == {"PATH": "/bin"}


def test_the_two_variables_of_a_client_are_no_settings() -> None:
    environ = {"PENSTOCK_URL": "http://example:1", "PENSTOCK_API_KEY": ""}

    assert load(None, environ) == Settings()
    assert client_environment(environ) == ClientEnvironment(url="http://example:1", api_key=None)
