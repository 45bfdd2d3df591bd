"""Commands for operators: `penstock keys` and `penstock doctor`."""

import sys

import click

from penstock.cli.client import AS_JSON
from penstock.cli.context import coroutine, settings_of_call
from penstock.settings import new_key


@click.group()
def keys() -> None:
    """Make API keys."""


@keys.command()
@click.option(
    "--name", default="default", show_default=True, help="Name of its user. Logs show the name, never the key."
)
def new(name: str) -> None:
    """Make an API key and explain where to put it. Penstock does not store it."""
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise click.BadParameter("letters, digits, - and _ only", param_hint="--name")
    key = new_key()
    click.echo(key)
    click.echo(f'\n# in the file of --config, below [api]:\nkeys = ["{name}:{key}"]', err=True)
    click.echo(f"\n# or in the environment, beside other keys, with commas:\nAPI_KEYS={name}:{key}", err=True)


@click.command()
@click.option(
    "--orphans", is_flag=True, help="Look for objects in the storage that belong to no record, and do nothing else."
)
@click.option("--delete", is_flag=True, help="Delete these objects.")
@AS_JSON
@coroutine
async def doctor(orphans: bool, delete: bool, as_json: bool) -> None:
    """Check what Penstock needs, and explain what to do about each problem.

    It checks Python, settings, models, Redis and its clock, the storage and its links, and the devices. The exit status
    is 1 if a check fails.
    """
    from penstock.cli.doctor.examine import doctor as run

    if delete and not orphans:
        raise click.UsageError("--delete goes with --orphans")
    sys.exit(await run(settings_of_call, orphans=orphans, delete=delete, as_json=as_json))


@click.command("try-device", hidden=True)
@click.option("--device", required=True)
def try_device(device: str) -> None:
    """Run a small model on a device. `doctor` starts this command."""
    import msgspec

    from penstock.core.device import Device
    from penstock.models.onnxruntime.probe import probe_device as run

    click.echo(msgspec.json.encode(run(msgspec.json.decode(device, type=Device))))


COMMANDS = (keys, doctor, try_device)
