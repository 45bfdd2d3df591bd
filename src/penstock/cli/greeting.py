"""What `penstock up` prints when a task could run."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from penstock.core.access import callers_of
from penstock.settings import CLIENT_KEY, KEY_FILE, Settings, UpSettings, client_environment, env_name

if TYPE_CHECKING:
    from penstock.local.up import Address


CURL = """curl -s {url}/v1/models \\
             -H "Authorization: Bearer {key}\""""


def greeting(address: "Address", settings: Settings, *, show_key: bool = False) -> str:
    """Returns the text that says where the server is, and how to try it without internet.

    It has a key only if that is asked for, since what is printed stays on a screen or in a log, and never one of the
    settings, which are other people's.
    """
    rows = {
        "API": address.url,
        "console": f"{address.url}/console" if settings.console.enabled else "off",
        "docs": "off" if settings.api.docs == "off" else f"{address.url}/docs",
        "metrics": address.metrics_url,
        "API key": _key(address, settings, show_key=show_key),
        "try": f"{_variables(settings)}penstock submit --sample",
        "or": CURL.format(url=address.url, key=_key_for_a_shell(settings)),
        "stop": "Ctrl-C",
    }
    lines = [f"  {click.style(name.ljust(8), dim=True)} {value}" for name, value in rows.items()]
    return "\n".join([click.style("Penstock is ready.", bold=True), *lines])


def _key(address: "Address", settings: Settings, *, show_key: bool) -> str:
    if own := dict.fromkeys(caller.id for _, caller in callers_of(settings.api.keys)):
        return f"of {', '.join(own)}, as the settings have them"
    return address.api_key if show_key else f"in {Path(settings.up.data_dir) / KEY_FILE}"


def _key_for_a_shell(settings: Settings) -> str:
    return "$KEY" if settings.api.keys else f"$(cat {shlex.quote(str(Path(settings.up.data_dir) / KEY_FILE))})"


def _variables(settings: Settings) -> str:
    """Returns what has to stand in front of a command here: nothing where it finds this server by itself."""
    looked_in = client_environment().data_dir or UpSettings().data_dir
    said = {}
    if Path(settings.up.data_dir).absolute() != Path(looked_in).absolute():
        said[env_name("up", "data_dir")] = shlex.quote(settings.up.data_dir)
    if settings.api.keys:
        said[CLIENT_KEY] = "$KEY"
    return "".join(f"{name}={value} " for name, value in said.items())
