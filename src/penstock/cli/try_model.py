"""`penstock try`: runs a model of one's own in this process, without a server, and shows what it gives."""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from msgspec.structs import replace

from penstock.cli.client import params_of as params_given
from penstock.cli.context import AS_JSON, settings_of_call
from penstock.pixels.headers import ImageBounds
from penstock.settings import Settings


@click.command("try")
@click.argument("model", metavar="MODEL")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="Member of the input: @path, or JSON; repeatable."
)
@click.option("--param", "pairs", multiple=True, metavar="K=V", help="Parameter of the model; repeatable.")
@click.option(
    "--format", "format_", type=click.Choice(["png", "jpeg", "webp", "avif", "tiff"]), default="png", show_default=True
)
@click.option("-o", "--output", type=click.Path(path_type=Path, file_okay=False), help="Directory of the result.")
@AS_JSON
def try_model(
    model: str,
    file: Path | None,
    inputs: tuple[str, ...],
    pairs: tuple[str, ...],
    format_: Any,
    output: Path | None,
    as_json: bool,
) -> None:
    """Run a model in this process, without a server: my_models.py:Sharpness, or a folder with a model.toml.

    Prints the result, and on stderr the time of each stage, what the model logs and prints, and the traceback of what
    it raises. The exit status is 1 if it gave no result.
    """
    from penstock.telemetry.logs import set_up_logs

    settings = settings_of_call()
    set_up_logs(replace(settings.telemetry, log_format="human"), process="try")
    logging.getLogger().setLevel(logging.INFO)
    show = _show_as_json if as_json else _show
    sys.exit(asyncio.run(_tried(settings, model, file, inputs, params_given(pairs), format_, output, show)))


async def _tried(
    settings: Settings,
    model: str,
    file: Path | None,
    inputs: tuple[str, ...],
    params: dict[str, Any],
    format_: Any,
    output: Path | None,
    show: Callable[[Any, str, Path | None], None],
) -> int:
    from penstock.conformance.kit import params_of, registered
    from penstock.conformance.local_model import loaded
    from penstock.conformance.samples import sample_of
    from penstock.core.request import OutputOptions
    from penstock.worker.devices import placements

    with contextlib.redirect_stdout(sys.stderr):  # stdout has the result alone
        cls = registered(model, settings)
        sample = sample_of(cls, members_given(cls, file, inputs), ImageBounds.of(settings.limits))
        said = params_of(cls, params)
        device = (await asyncio.to_thread(placements, settings.worker))[0].device
        async with loaded(cls, settings, device) as local:
            try:
                run = await local.run(sample.source_for(cls), said, OutputOptions(format=format_))
            except Exception as error:  # noqa: BLE001  the model's own code
                return _refused(error)
    stages = ", ".join(f"{stage} {ms:.1f} ms" for stage, ms in run.took_ms.items())
    click.echo(f"{cls.name} on {device.name}: loaded in {local.load_s:.2f} s, {stages}", err=True)
    show(run, file.stem if file else cls.name, output)
    return 0


def members_given(cls: Any, file: Path | None, inputs: tuple[str, ...]) -> dict[str, Any]:
    """The members of the input that the command line gives: `--input`, and the file for the one image or file.

    Raises click.BadParameter where they are not the model's, or a URL, which is not fetched here.
    """
    from penstock.cli.input_members import member_for_files, parse_inputs
    from penstock.client.inputs import is_url
    from penstock.conformance.samples import declared

    takes = declared(cls)
    kinds = {name: str(member.kind) for name, member in takes.items()}
    given = parse_inputs(inputs, kinds)
    for name, value in given.items():
        if kinds[name] != "json" and is_url(value):
            raise click.BadParameter(f"{name} is a URL: download it first, and give its path", param_hint="--input")
    if file is not None:
        required = [name for name, member in takes.items() if member.required]
        given[member_for_files(kinds, required, given)] = file
    return given


def _refused(error: Exception) -> int:
    from penstock.errors import PenstockError
    from penstock.models.tracebacks import own_traceback

    cause = error.__cause__ if isinstance(error, PenstockError) and error.__cause__ else error
    click.echo(own_traceback(cause).rstrip(), err=True)
    code = f" ({error.code})" if isinstance(error, PenstockError) else ""
    what = str(error).partition(";")[0]  # what follows is for those who have no traceback
    click.echo(f"{click.style('failed', fg='red')}{code}: {what}", err=True)
    return 1


def _show(run: Any, stem: str, output: Path | None) -> None:
    import msgspec

    from penstock.conformance.checks import described

    if run.result.data is not None and output is None:
        click.echo(msgspec.json.format(msgspec.json.encode(run.result.data), indent=2).decode())
    for name, content in _files(run, stem).items():
        if output is None:
            continue
        output.mkdir(parents=True, exist_ok=True)
        (output / name).write_bytes(content)
        click.echo(str(output / name))
    if output is None and run.files:
        click.echo(f"{described(run)}; -o DIRECTORY keeps it", err=True)


def _show_as_json(run: Any, stem: str, output: Path | None) -> None:
    import msgspec

    sizes = {}
    for name, content in _files(run, stem).items():
        place = name
        if output is not None:
            output.mkdir(parents=True, exist_ok=True)
            (output / name).write_bytes(content)
            place = str(output / name)
        sizes[place] = len(content)
    click.echo(msgspec.json.encode({"data": run.result.data, "files": sizes, "took_ms": run.took_ms}))


def _files(run: Any, stem: str) -> dict[str, bytes]:
    import msgspec

    files = {f"{stem}-{file.name}": bytes(file.content) for file in run.files[1:]}
    for first in run.files[:1]:
        files[stem + Path(first.name).suffix] = bytes(first.content)
    if run.result.data is not None:
        name = f"{stem}-data.json" if f"{stem}.json" in files else f"{stem}.json"
        files[name] = msgspec.json.format(msgspec.json.encode(run.result.data), indent=2)
    return files
