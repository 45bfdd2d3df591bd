"""Where settings come from: a TOML file and the environment, read once.

Highest first: the environment (`PENSTOCK_<SECTION>_<FIELD>`, or a short name of `ALIASES`), the file, the defaults.
A secret may be in a file of its own, as the secrets of Compose and Kubernetes are: the variable with `_FILE` behind its
name has the path.
Nothing else in Penstock reads the environment. A client has two variables of its own, which are not settings of a
server.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_type_hints

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from penstock.errors import ConfigurationError
from penstock.settings.rules import RULES
from penstock.settings.sections import Settings

ALIASES: dict[str, tuple[str, str]] = {
    "API_KEYS": ("api", "keys"),
    "RATE_LIMIT_PER_MINUTE": ("api", "rate_limit_per_minute"),
    "GPU_IDS": ("worker", "gpu_ids"),
    "MAX_RETRIES": ("queue", "max_retries"),
    "USE_LOCAL_STORAGE": ("storage", "local"),
    "REDIS_URL": ("redis", "url"),
}
"""Short names in the environment; the long name of the same setting has precedence."""

CLIENT_URL, CLIENT_KEY = "PENSTOCK_URL", "PENSTOCK_API_KEY"
"""Variables from which a client knows its server; a server reads neither."""
KEY_FILE, URL_FILE = "api-key", "url"
"""Files in the data directory of `penstock up`: the key that its first start has made, and its URL while it runs."""
NO_SETTINGS = frozenset({"PENSTOCK_CONFIG", CLIENT_URL, CLIENT_KEY})
"""Names that look like settings and are not; every other unknown `PENSTOCK_` name is refused."""


class ClientEnvironment(Struct, frozen=True, kw_only=True):
    """The variables of a client; None for one that is not set."""

    url: str | None
    api_key: str | None
    data_dir: str | None = None


def client_environment(environ: Mapping[str, str] = os.environ) -> ClientEnvironment:
    """The server and the key that a client uses when it is given none, and where `penstock up` keeps its own. An empty
    variable counts as not set."""
    url, api_key, data_dir = (
        environ.get(name) or None for name in (CLIENT_URL, CLIENT_KEY, env_name("up", "data_dir"))
    )
    return ClientEnvironment(url=url, api_key=api_key, data_dir=data_dir)


def state_home(environ: Mapping[str, str] = os.environ) -> Path:
    """The directory for what commands remember between two runs; it need not exist. Raises RuntimeError where a user
    has no home."""
    return Path(environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "penstock"


def visible_devices(environ: Mapping[str, str] = os.environ) -> str | None:
    """The devices that CUDA may use, by the variable of CUDA; None where it is not set, and all may be used."""
    return environ.get("CUDA_VISIBLE_DEVICES")


def load(path: Path | None, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings of this process, from the file and the environment.

    Raises ConfigurationError when a value is wrong, a name is unknown, or the file is missing or not TOML. Its one line
    names the setting and says what it must be.
    """
    tree = _read_file(path) if path else {}
    environ = _with_secret_files(environ)
    for (section, field), name in _environment_names(environ).items():
        tree.setdefault(section, {})[field] = _from_environment(section, field, name, environ[name])
    try:
        settings = msgspec.convert(tree, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigurationError(_readable(error)) from error
    _check(settings)
    return settings


def within(settings: Settings, data_dir: Path) -> Settings:
    """The settings with the objects and the models in a data directory, unless they name other directories."""
    for section, folder in (("storage", "objects"), ("models", "models")):
        given = getattr(settings, section)
        if given.directory == type(given)().directory:
            settings = replace(settings, **{section: replace(given, directory=str(data_dir / folder))})
    return settings


def environment_of(settings: Settings) -> dict[str, str]:
    """The variables from which `load` makes these settings; a supervisor passes them to its children."""
    return {
        env_name(section, field): _to_environment(value)
        for section, values in msgspec.to_builtins(settings).items()
        for field, value in values.items()
    }


def clean_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without settings. A child gets it together with `environment_of`."""
    short = {*ALIASES, *_secret_files()}
    return {name: v for name, v in environ.items() if not name.startswith("PENSTOCK_") and name not in short}


def take_environment(environment: Mapping[str, str]) -> None:
    """Give this process another environment. Libraries of C that look again see it too."""
    os.environ.clear()
    os.environ.update(environment)


def environment_with(overrides: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment with these settings put over it, by names such as `api_port`; None changes nothing."""
    overridden = {f"PENSTOCK_{name}".upper(): _to_environment(v) for name, v in overrides.items() if v is not None}
    return {**environ, **overridden}


SECRETS = {
    ("api", "keys"), ("redis", "url"), ("redis", "password"),
    ("redis", "sentinel_password"), ("webhooks", "secrets"),
    ("storage", "s3_access_key"), ("storage", "s3_secret_key"),
}  # fmt: skip
"""Settings that are never printed."""


def env_name(section: str, field: str) -> str:
    """The environment variable of a setting: `env_name("api", "port")` is `PENSTOCK_API_PORT`."""
    return f"PENSTOCK_{section}_{field}".upper()


def _secret_files() -> dict[str, str]:
    """The variables that name the file of a secret, each with the variable of the secret itself."""
    short = (name for name, key in ALIASES.items() if key in SECRETS)
    return {f"{name}_FILE": name for name in (*short, *(env_name(*key) for key in sorted(SECRETS)))}


def _with_secret_files(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment with the secrets of files in it, without white space around them."""
    read = dict(environ)
    for name, secret in _secret_files().items():
        file = read.pop(name, "")
        if not file:
            continue
        if read.get(secret):
            raise ConfigurationError(f"{name} and {secret} are both set; take one of them away")
        try:
            read[secret] = Path(file).read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"{name}: {file} cannot be read: {error}") from error
    return read


def _read_file(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError as error:
        raise ConfigurationError(f"configuration file {path} does not exist") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"configuration file {path} is not TOML: {error}") from error


def _fields() -> dict[tuple[str, str], Any]:
    """The type of every setting, by (section, field)."""
    return {
        (section, field): hint
        for section, cls in get_type_hints(Settings).items()
        for field, hint in get_type_hints(cls, include_extras=True).items()
        if field in cls.__struct_fields__
    }


def _environment_names(environ: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """The variables that are set, by the (section, field) that they set."""
    known = {env_name(*key): key for key in _fields()}
    for name in environ:
        if name.startswith("PENSTOCK_") and name not in known and name not in NO_SETTINGS:
            raise ConfigurationError(f"environment variable {name} is not a setting; see config.example.toml")
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
    return _table(name, text) if str(hint).startswith("dict") else text


def _table(name: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ConfigurationError(f"{name} must be a JSON object: {error}") from error


_BOOLEANS = dict.fromkeys(("true", "1", "yes", "on"), True) | dict.fromkeys(("false", "0", "no", "off"), False)


def _to_environment(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return msgspec.json.encode(value).decode()
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _readable(error: msgspec.ValidationError) -> str:
    # msgspec writes "Expected `int` <= 65535 - at `$.api.port`"; this turns it into "api.port: expected ...".
    text, _, where = str(error).partition(" - at `$.")
    place = where.rstrip("`")
    return f"{place}: {text[0].lower()}{text[1:]}" if place else str(error)


def _check(settings: Settings) -> None:
    for name, holds, must in RULES:
        if not holds(settings):
            raise ConfigurationError(f"{name}: {must}")
