"""All settings: one tree of frozen structs, read once from a TOML file and the environment.

Precedence, highest first: the environment (`PENSTOCK_<SECTION>_<FIELD>`, or one of the short names in
`ALIASES`), the file, the defaults below. Nothing else in Penstock reads the environment. A client has two variables of
its own, which are no settings of a server.
"""

import os
import secrets
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import msgspec
from msgspec import Meta, Struct

from penstock.errors import ConfigurationError
from penstock.rules import RULES

Port = Annotated[int, Meta(ge=0, le=65535)]
Positive = Annotated[int, Meta(ge=1)]
NonNegative = Annotated[int, Meta(ge=0)]
NotBelowZero = Annotated[float, Meta(ge=0)]
Seconds = Annotated[float, Meta(gt=0)]

KEY_BYTES = 24  # 192 random bits


def new_key() -> str:
    """An API key that nobody guesses, and that a scanner for secrets can tell by its beginning."""
    return f"pen_{secrets.token_urlsafe(KEY_BYTES)}"


class Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every section: frozen, by keyword, unknown names refused."""


class ApiSettings(Section, frozen=True):
    """The HTTP server."""

    host: str = "127.0.0.1"
    port: Port = 8000
    keys: tuple[str, ...] = ()
    """API keys, each `secret` or `name:secret`; a secret has at least 16 characters."""
    rate_limit_per_minute: NonNegative = 600
    """Submits per key in any 60 s, and as many uploads, exact over all API processes; 0 is no limit."""
    linger_s: NotBelowZero = 2.0
    """On SIGTERM: how long new requests are still answered, while /readyz already says 503: longer than the pause
    between two looks of the load balancer."""
    drain_s: Seconds = 5.0
    """After that: how long requests in flight may take to finish."""
    keep_alive_s: Seconds = 75.0
    """How long a connection stays open without a request: longer than a proxy before the server keeps it (60 s for
    most), so that it is the proxy that closes it."""
    public_url: str = ""
    """Where clients reach the server, such as `https://images.example.com`: every link is made from it. Empty: from the
    Host of the request."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks, such as `10.0.0.0/8`, whose `Forwarded` and `X-Forwarded-Proto`, `-Host` and `-Port` are
    believed."""


class RedisSettings(Section, frozen=True):
    """The task store."""

    url: str = "redis://127.0.0.1:6379/0"
    """`redis://`, `rediss://` or `unix:///path`; the password, if any, is part of it."""
    namespace: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")] = "penstock"
    """All keys begin with it, in Redis and in the storage, so that several installations may share either."""
    timeout_s: Seconds = 2.0
    """Longest wait for one answer."""


class QueueSettings(Section, frozen=True):
    """How waiting tasks are admitted, ordered and retried."""

    max_depth: Positive = 100_000
    """Tasks that may wait for one model; more are refused with `queue_full`."""
    starvation_guard: NonNegative = 20
    """A lower priority that waits is served after being passed over this many times, by claims and by batches on the
    device alike, and so is a large task on the device; 0 turns it off."""
    max_retries: NonNegative = 3
    """Retries after a transient error."""
    max_crashes: Positive = 3
    """Worker deaths after which a task fails as `poison_input`."""
    retry_base_s: Seconds = 1.0
    """Backoff before retry n is random between 0 and base x 2^(n-1), at most `retry_cap_s`."""
    retry_cap_s: Seconds = 60.0
    lease_s: Seconds = 6.0
    """A worker that has not renewed for this long has lost its tasks; it renews every quarter of it."""
    result_ttl_s: Positive = 86_400
    """A task and its result are deleted this long after it ended."""
    batch_window: Positive = 500
    """Tasks of one batch that wait or run at a time; its other lines come later."""
    max_batches: Positive = 20
    """Unfinished batches of one API key; more are refused with `queue_full`."""
    reuse: bool = True
    """Tasks of one API key with the same model, params and input bytes (not: a URL) share one run and its result."""


class ModelSettings(Section, frozen=True):
    """Which models are served."""

    modules: tuple[str, ...] = ()
    """Python modules with runners of your own, imported by API and workers alike."""
    serve: tuple[str, ...] = ()
    """Names of the models to serve; empty is all. A worker may serve fewer than the API accepts."""


class WorkerSettings(Section, frozen=True):
    """The processes that run models."""

    gpu_ids: str = "auto"
    """`auto` (every CUDA device, else the CPU), `cpu`, or device numbers such as `0,1`."""
    slots: Positive = 8
    """Most tasks in flight in one worker process: one infers while others fetch, decode, encode and upload. It holds
    fewer when these keep its device busy."""
    reserved_slots: NonNegative = 1
    """Further slots that only tasks of high priority may take, and those that were passed over often enough."""
    threads: NonNegative = 0
    """ONNX Runtime threads of one CPU worker; 0 is one per core."""
    task_timeout_s: Seconds = 600.0
    """Longest work of one attempt, unless the task asks for less. What it waits behind others does not count."""
    start_s: Seconds = 180.0
    """Longest start of a worker process, in which it loads and warms up its models; then it is killed and started anew.
    Once it serves, it is when it gives no sign of life for three times `queue.lease_s`."""
    drain_s: Positive = 25
    """On SIGTERM: how long running tasks may take to finish before they are handed back."""
    spool_directory: str = ""
    """Where finished results wait while the storage is away; empty is the system's directory for temporary files."""
    spool_max_bytes: NonNegative = 1024 * 1024 * 1024
    """Room of one worker process for them; beyond it results wait in memory, and the worker claims nothing."""
    memory_bytes: NonNegative = 0
    """Memory of one worker process for the images of its tasks in flight; a task that does not fit waits. 0 is 60 % of
    the machine's (or the container's), shared by the workers of this host."""
    max_batch: Positive = 8
    """Most tiles in one run of a GPU; a CPU runs them one by one."""
    precision: Literal["auto", "fp32"] = "auto"
    """On a GPU: `auto` is fp16 for models that have such a file and pass the check against fp32 at start."""
    gpu_memory_bytes: NonNegative = 0
    """What one model may take of a GPU; 0 is all but 1.5 GiB."""
    cuda_graphs: bool = False
    """Replay small batches as CUDA graphs: experimental, see docs/how-to/tune-a-gpu.md."""
    tensorrt: bool = False
    """Run models by TensorRT 10, which must be installed: experimental, see docs/how-to/tune-a-gpu.md."""
    engine_cache_dir: str = ""
    """Where TensorRT keeps its engines, which take minutes to build; for nobody else to write to."""


class StorageSettings(Section, frozen=True):
    """Where inputs and results are kept."""

    local: bool = True
    """A directory of this machine (true) or an S3 bucket (false)."""
    directory: str = "penstock-data/objects"
    s3_endpoint: str = ""
    """Empty is AWS; for MinIO and others, their URL."""
    s3_bucket: str = "penstock"
    s3_region: str = "us-east-1"
    s3_access_key: str = ""
    """Empty: the usual AWS chain (environment, profile, instance role)."""
    s3_secret_key: str = ""
    s3_public_endpoint: str = ""
    """Host for the links given to clients, to download and to upload, where it differs from `s3_endpoint`."""
    url_ttl_s: Annotated[int, Meta(ge=1, le=604_800)] = 900
    """Life of a signed link; what has begun by then may take longer."""
    upload_ttl_s: Positive = 86_400
    """An upload that no task uses is deleted this long after it was complete."""
    sweep: bool = False
    """Delete the objects older than a day that no record knows of, each hour; otherwise they are only counted. See
    docs/how-to/buckets.md."""


class LimitSettings(Section, frozen=True):
    """What an input may be, checked before decoding, and the data of a result."""

    max_body_bytes: Positive = 32 * 1024 * 1024
    max_batch_bytes: Positive = 200 * 1024 * 1024
    max_input_bytes: Positive = 50 * 1024 * 1024
    max_upload_bytes: Positive = 200 * 1024 * 1024
    max_image_megapixels: Positive = 50
    fetch_timeout_s: Seconds = 20.0
    max_redirects: NonNegative = 3
    allow_http: bool = True
    """Fetch `http:` URLs too, not only `https:`."""
    ports: tuple[Port, ...] = (80, 443)
    allow_networks: tuple[str, ...] = ()
    """Networks that may be fetched from although they are private, such as `10.20.0.0/16`."""
    s3_inputs: tuple[str, ...] = ()
    """Buckets, or `bucket/prefix`, that every key may read inputs from as `s3://bucket/key`, as the storage does."""
    max_result_data_bytes: Positive = 256 * 1024  # a task with more fails as `model_result_invalid`


class WebhookSettings(Section, frozen=True):
    """Telling clients by HTTP what happens to their tasks."""

    secrets: tuple[str, ...] = ()
    """`whsec_` and the base64 of 24 to 64 random bytes; with several, messages are signed by each, so that one can be
    replaced without a gap. Without any, tasks with a webhook are refused."""
    allow_http: bool = False
    """Send to `http:` URLs too, not only `https:`. Ports and private networks are those of the limits."""
    timeout_s: Seconds = 15.0
    """Longest wait for an answer."""
    retries_s: tuple[NotBelowZero, ...] = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
    """Waits before each repetition: 5 s, 5 m, 30 m, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h (Standard Webhooks 1.0)."""


class TelemetrySettings(Section, frozen=True):
    """Logs and metrics."""

    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["auto", "json", "human"] = "auto"
    """`auto` is human on a terminal, JSON elsewhere."""
    metrics_host: str = "127.0.0.1"
    metrics_port: Port = 9464
    """Of `penstock worker` and `penstock up`, one port for all their processes; 0 takes a free one."""


class UpSettings(Section, frozen=True):
    """`penstock up`: everything on one machine."""

    data_dir: str = "penstock-data"


class Settings(Section, frozen=True):
    """The whole tree."""

    api: ApiSettings = ApiSettings()
    redis: RedisSettings = RedisSettings()
    queue: QueueSettings = QueueSettings()
    models: ModelSettings = ModelSettings()
    worker: WorkerSettings = WorkerSettings()
    storage: StorageSettings = StorageSettings()
    limits: LimitSettings = LimitSettings()
    webhooks: WebhookSettings = WebhookSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    up: UpSettings = UpSettings()


ALIASES: dict[str, tuple[str, str]] = {
    "API_KEYS": ("api", "keys"),
    "RATE_LIMIT_PER_MINUTE": ("api", "rate_limit_per_minute"),
    "GPU_IDS": ("worker", "gpu_ids"),
    "MAX_RETRIES": ("queue", "max_retries"),
    "USE_LOCAL_STORAGE": ("storage", "local"),
    "REDIS_URL": ("redis", "url"),
}
"""Short environment names; the long form of the same setting wins over them."""

CLIENT_URL, CLIENT_KEY = "PENSTOCK_URL", "PENSTOCK_API_KEY"
"""Where a client finds its server; a server reads neither."""
NO_SETTINGS = frozenset({"PENSTOCK_CONFIG", CLIENT_URL, CLIENT_KEY})
"""Names that look like settings and are none; every other unknown one is refused."""


class ClientEnvironment(Struct, frozen=True, kw_only=True):
    """What the environment says to a client; None for what it does not say."""

    url: str | None
    api_key: str | None


def client_environment(environ: Mapping[str, str] = os.environ) -> ClientEnvironment:
    """The server and the key that a client uses when it is given none. An empty variable says nothing."""
    return ClientEnvironment(url=environ.get(CLIENT_URL) or None, api_key=environ.get(CLIENT_KEY) or None)


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process.

    Raises ConfigurationError, one line naming the setting and what it must be, when a value is wrong,
    a name unknown, or the file missing or not TOML.
    """
    tree = _read_file(path) if path else {}
    for (section, field), name in _environment_names(environ).items():
        tree.setdefault(section, {})[field] = _from_environment(section, field, name, environ[name])
    try:
        settings = msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_readable(error)) from error
    _check(settings)
    return settings


def environment_of(settings: Settings) -> dict[str, str]:
    """The environment that makes `load` give these settings: how a supervisor hands them to its children."""
    return {
        env_name(section, field): _to_environment(value)
        for section, values in msgspec.to_builtins(settings).items()
        for field, value in values.items()
    }


def clean_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without any setting: the ground on which `environment_of` is put for a child."""
    return {name: v for name, v in environ.items() if not name.startswith("PENSTOCK_") and name not in ALIASES}


def environment_with(overrides: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment with some settings put over it, by names such as `api_port`; None leaves one alone."""
    given = {f"PENSTOCK_{name}".upper(): _to_environment(v) for name, v in overrides.items() if v is not None}
    return {**environ, **given}


SECRETS = {
    ("api", "keys"), ("redis", "url"), ("webhooks", "secrets"),
    ("storage", "s3_access_key"), ("storage", "s3_secret_key"),
}  # fmt: skip
"""Never printed."""


def env_name(section: str, field: str) -> str:
    """`("api", "port")` -> `PENSTOCK_API_PORT`."""
    return f"PENSTOCK_{section}_{field}".upper()


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigurationError(f"configuration file {path} does not exist") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"configuration file {path} is not TOML: {error}") from error


def _fields() -> dict[tuple[str, str], Any]:
    """(section, field) -> type, for every setting."""
    return {
        (section, field): hint
        for section, cls in get_type_hints(Settings).items()
        for field, hint in get_type_hints(cls, include_extras=True).items()
        if field in cls.__struct_fields__
    }


def _environment_names(environ: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """Which variable gives which setting, of those that are set."""
    known = {env_name(*key): key for key in _fields()}
    for name in environ:
        if name.startswith("PENSTOCK_") and name not in known and name not in NO_SETTINGS:
            raise ConfigurationError(f"environment variable {name} is no setting; see config.example.toml")
    short = {key: name for name, key in ALIASES.items() if name in environ}
    return short | {key: name for name, key in known.items() if name in environ}


def _from_environment(section: str, field: str, name: str, text: str) -> Any:
    hint = _fields()[(section, field)]
    if str(hint).startswith("tuple"):
        return [part.strip() for part in text.split(",") if part.strip()]
    if hint is bool:
        lowered = text.strip().lower()
        if lowered not in _BOOLEANS:
            raise ConfigurationError(f"{name} must be true or false, not {text!r}")
        return _BOOLEANS[lowered]
    return text


_BOOLEANS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


def _to_environment(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _readable(error: msgspec.ValidationError) -> str:
    """msgspec says "Expected `int` <= 65535 - at `$.api.port`"; a person reads "api.port: expected ..."."""
    text, _, where = str(error).partition(" - at `$.")
    place = where.rstrip("`")
    return f"{place}: {text[0].lower()}{text[1:]}" if place else str(error)


def _check(settings: Settings) -> None:
    """What types cannot say."""
    for name, holds, must in RULES:
        if not holds(settings):
            raise ConfigurationError(f"{name}: {must}")
