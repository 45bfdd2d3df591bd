"""`penstock doctor`, and the commands that it starts."""

import asyncio
import sys

import click

from penstock.cli.context import AS_JSON, settings_of_call
from penstock.errors import ConfigurationError


@click.command()
@click.option(
    "--orphans", is_flag=True, help="Look for objects in the storage that belong to no record, and do nothing else."
)
@click.option("--delete", is_flag=True, help="Delete these objects.")
@click.option("--gpu", is_flag=True, help="Measure Penstock on a GPU, in at most ten minutes, and do nothing else.")
@click.option("--device", metavar="ID", help="The GPU, as in GPU_IDS [the first that a worker would use].")
@click.argument("checks", nargs=-1)
@AS_JSON
def doctor(orphans: bool, delete: bool, gpu: bool, device: str | None, checks: tuple[str, ...], as_json: bool) -> None:
    """Check what Penstock needs, and explain what to do about each problem.

    It checks Python, settings, models, Redis and its clock, the storage and its links, and the devices. The exit status
    is 1 if a check fails.

    With --gpu it runs ten checks of one GPU, or those named: who, right, tensor-cores, switch, options, arena, copies,
    stages, stop, start. They want the card for themselves, and change no setting of it. --json prints all figures, a
    line for each check: it is what to send when a card is slow or wrong.
    """
    if delete and not orphans:
        raise click.UsageError("--delete goes with --orphans")
    if (device or checks) and not gpu:
        raise click.UsageError("--device and names of checks go with --gpu")
    if gpu and orphans:
        raise click.UsageError("--gpu and --orphans exclude each other")
    if gpu:
        from penstock.cli.doctor.gpu import doctor_gpu

        sys.exit(doctor_gpu(settings_of_call(), device=device, names=checks, as_json=as_json))
    from penstock.cli.doctor.examine import doctor as run

    sys.exit(asyncio.run(run(settings_of_call, orphans=orphans, delete=delete, as_json=as_json)))


@click.command("gpu-check", hidden=True)
@click.argument("name")
@click.option("--device", required=True)
@click.option("--uuid", default="")
def gpu_check(name: str, device: str, uuid: str) -> None:
    """Run one of the checks of a GPU. `doctor --gpu` starts this command."""
    from penstock.gpu_checks.measures.run import Subject, run_measure
    from penstock.local.up import device_of

    sys.exit(run_measure(name, Subject(device=device_of(device), uuid=uuid, settings=settings_of_call())))


@click.command("try-device", hidden=True)
@click.option("--device", required=True)
def try_device(device: str) -> None:
    """Run a small model on a device. `doctor` starts this command."""
    import msgspec

    from penstock.local.up import device_of
    from penstock.models.base import DeviceBroken
    from penstock.models.onnxruntime.probe import probe_device as run

    try:
        click.echo(msgspec.json.encode(run(device_of(device))))
    except DeviceBroken as error:
        raise ConfigurationError(str(error)) from error


COMMANDS = (doctor, try_device, gpu_check)
