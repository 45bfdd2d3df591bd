"""What all commands share: the settings of this call, as text too, and coroutines as commands."""

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import click
import msgspec

from penstock.settings import SECRETS, Settings, environment_with, load

P = ParamSpec("P")


def settings_of_call(**overrides: Any) -> Settings:
    """The settings, with options of the command line over file and environment."""
    path = click.get_current_context().find_root().params.get("config")
    return load(path, environment_with(overrides))


def as_toml(settings: Settings) -> str:
    """The settings as a configuration file; keys and passwords are masked."""
    lines: list[str] = []
    for section, values in msgspec.to_builtins(settings).items():
        lines.append(f"[{section}]")
        for field, value in values.items():
            lines.append(f"{field} = {_to_toml('***' if (section, field) in SECRETS and value else value)}")
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def coroutine(command: Callable[P, Any]) -> Callable[P, None]:
    """Run it on an event loop of its own."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(command(*args, **kwargs))

    return run


def _to_toml(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_to_toml(item) for item in value) + "]"
    return msgspec.json.encode(value).decode()
