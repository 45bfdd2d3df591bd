"""`penstock models check`: whether a model keeps its contract, or answers its example as it should."""

import sys
from pathlib import Path

import click

from penstock.cli.context import AS_JSON, settings_of_call
from penstock.cli.models.places import DATA_DIR, settings_with
from penstock.core.model import split_id


@click.command()
@click.argument("model", metavar="MODEL")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--input", "inputs", multiple=True, metavar="NAME=VALUE", help="Member of the input: @path, or JSON; repeatable."
)
@click.option("--param", "pairs", multiple=True, metavar="K=V", help="Parameter of the model; repeatable.")
@DATA_DIR
@AS_JSON
def check(
    model: str,
    file: Path | None,
    inputs: tuple[str, ...],
    pairs: tuple[str, ...],
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Check a model of your own, my_models.py:Sharpness: its answer against its card, other tasks beside it, batches,
    odd sizes, outputs that are not numbers, memory, cancel. Or check one without code, by its name, name@version or
    folder: its files against their digests, and its answer to its example against the stored one.

    It runs without a server, a class in this process on FILE or on a photo that comes with Penstock. The exit status is
    1 if a check failed.
    """
    from penstock.cli.client import params_of

    directory = Path(settings_with(data_dir).models.directory)
    if not is_class(model) and (is_declared(model, directory) or not is_coded(model)):
        from penstock.cli.models.checking import check_models

        sys.exit(check_models(model, directory, as_json=as_json))
    from penstock.cli.models.conforming import check_runner

    sys.exit(check_runner(model, file, inputs, params_of(pairs), as_json=as_json))


def is_class(reference: str) -> bool:
    """Whether a reference can only be that of a class, such as `my_models.py:Sharpness`, or of a file with classes."""
    return reference.endswith(".py") or ":" in reference


def is_declared(reference: str, directory: Path) -> bool:
    """Whether a reference is the folder of a model without code, or the name of one in the directory."""
    from penstock.models.declared import FILE

    return (Path(reference) / FILE).is_file() or (directory / split_id(reference)[0]).is_dir()


def is_coded(reference: str) -> bool:
    """Whether a reference is the name of a model with code that the settings serve, or that of a module."""
    from importlib.util import find_spec

    from penstock.models import load_runners

    if reference in load_runners(settings_of_call().models):
        return True
    top, *below = reference.split(".")
    return bool(below) and top.isidentifier() and find_spec(top) is not None
