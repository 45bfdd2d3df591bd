"""What all commands share: the settings of this call, and coroutines as commands."""

import asyncio
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

import click

from penstock.settings import Settings, environment_with, load

P = ParamSpec("P")


def settings_of_call(**overrides: Any) -> Settings:
    """The settings, with options of the command line over file and environment."""
    path = click.get_current_context().find_root().params.get("config")
    return load(path, environment_with(overrides))


def coroutine(command: Callable[P, Any]) -> Callable[P, None]:
    """Run it on an event loop of its own."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        asyncio.run(command(*args, **kwargs))

    return run
