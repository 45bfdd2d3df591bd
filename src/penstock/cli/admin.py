"""The commands for who runs the server: keys, and a look at what the machine lacks."""

import sys

import click

from penstock.cli.client import AS_JSON
from penstock.cli.context import coroutine, settings_of_call
from penstock.settings import new_key


@click.group()
def keys() -> None:
    """Make API keys."""


@keys.command()
@click.option("--name", default="default", show_default=True, help="Who will use it; shows in logs, the key does not.")
def new(name: str) -> None:
    """Make an API key, and say where to put it. Nothing is stored."""
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise click.BadParameter("letters, digits, - and _ only", param_hint="--name")
    key = new_key()
    click.echo(key)
    click.echo(f'\n# in the file of --config, below [api]:\nkeys = ["{name}:{key}"]', err=True)
    click.echo(f"\n# or in the environment, beside other keys, with commas:\nAPI_KEYS={name}:{key}", err=True)


@click.command()
@click.option("--orphans", is_flag=True, help="Look instead for objects in the storage that no record knows of.")
@click.option("--delete", is_flag=True, help="Delete these objects.")
@AS_JSON
@coroutine
async def doctor(orphans: bool, delete: bool, as_json: bool) -> None:
    """Check what Penstock needs, and say what to do.

    Python, settings, models, Redis, its clock, storage, its links, devices. Exit status 1 when something is missing.
    """
    from penstock.cli.doctor import doctor as run

    if delete and not orphans:
        raise click.UsageError("--delete goes with --orphans")
    sys.exit(await run(settings_of_call, orphans=orphans, delete=delete, as_json=as_json))


@click.command("try-device", hidden=True)
@click.option("--device", required=True)
def try_device(device: str) -> None:
    """Run a small model; started by `doctor`."""
    import msgspec

    from penstock.core.device import Device
    from penstock.models.onnxruntime.probe import probe_device as run

    click.echo(msgspec.json.encode(run(msgspec.json.decode(device, type=Device))))


COMMANDS = (keys, doctor, try_device)
