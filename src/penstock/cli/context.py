"""What all commands share: how they get the settings, print them, and run coroutines."""

import asyncio
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, ParamSpec

import click
import msgspec
from msgspec.structs import replace

from penstock.core.access import NAME, NAME_RULE
from penstock.settings import SECRETS, Settings, environment_with, load

P = ParamSpec("P")

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line, for programs.")


def settings_of_call(**overrides: Any) -> Settings:
    """Loads the settings; options of the command line override the file of `--config` and the environment."""
    path = click.get_current_context().find_root().params.get("config")
    return load(path, environment_with(overrides))


def with_own_models(command: Callable[P, Any]) -> Callable[P, Any]:
    """Adds the options `--models` and `--reload`; `models_of_call` reads them."""
    models = click.option(
        "--models", multiple=True, metavar="FILE", help="File or module with models of your own; repeatable."
    )
    reload = click.option("--reload", is_flag=True, help="Start the workers anew when a file of these models changes.")
    return models(reload(command))


def models_of_call(settings: Settings, references: tuple[str, ...], *, reload: bool) -> Settings:
    """The settings with further files and modules of models. Raises click.UsageError when there are none to reload."""
    modules = (*settings.models.modules, *references)
    if reload and not modules:
        raise click.UsageError("--reload needs --models, which names the file")
    return replace(settings, models=replace(settings.models, modules=modules))


def by_section(settings: Settings) -> dict[str, dict[str, Any]]:
    """Returns the settings by section and name, as JSON has them."""
    found: dict[str, dict[str, Any]] = msgspec.json.decode(msgspec.json.encode(settings))
    return found


def masked(settings: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the settings with keys and passwords masked."""
    return {
        section: {name: "***" if (section, name) in SECRETS and value else value for name, value in values.items()}
        for section, values in settings.items()
    }


def as_toml(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Renders settings by section and name as a TOML file."""
    lines: list[str] = []
    for section, values in settings.items():
        lines.append(f"[{section}]")
        for field, value in values.items():
            lines.append(f"{field} = {_to_toml(value)}")
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def name_of(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Reads the name of a tenant or a caller. Raises click.BadParameter."""
    if value is not None and not NAME.fullmatch(value):
        raise click.BadParameter(f"{value!r} is no name; a name has {NAME_RULE}")
    return value


def coroutine(command: Callable[P, Any]) -> Callable[P, None]:
    """Makes a coroutine function a click command that runs it on a new event loop."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(command(*args, **kwargs))

    return run


def _to_toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_to_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_to_toml(name)} = {_to_toml(item)}" for name, item in value.items()) + "}"
    return msgspec.json.encode(value).decode()
