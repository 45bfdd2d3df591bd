"""`penstock models add`: makes a model of an ONNX file, and says what it knows and what it guessed."""

import asyncio
from pathlib import Path

import click

from penstock.cli.context import AS_JSON
from penstock.cli.models.places import DATA_DIR, settings_with

KINDS = (
    "image-to-image", "image-to-mask", "image-to-labels", "image-to-scores", "image-to-embedding", "image-to-boxes",
    "image-to-tensors", "tensors",
)  # fmt: skip
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("file", type=FILE)
@click.option("--name", help="Name of the model [that of the file].")
@click.option(
    "--kind", type=click.Choice(KINDS), metavar="KIND", help="What it makes of its input, as image-to-mask [guessed]."
)
@click.option("--version", help="Version [that of the same file, or the next number].")
@click.option(
    "--set", "said", multiple=True, metavar="MEMBER=VALUE", help="What you know, as input.range=0-255; repeatable."
)
@click.option("--example", type=FILE, help="A file that it shall answer now and at each load [a bundled photo].")
@click.option("--default", is_flag=True, help="Make this version the one that the bare name means.")
@click.option("--replace", is_flag=True, help="Replace --version also where it has another file.")
@DATA_DIR
@AS_JSON
def add(
    file: Path,
    name: str | None,
    kind: str | None,
    version: str | None,
    said: tuple[str, ...],
    example: Path | None,
    default: bool,
    replace: bool,
    data_dir: str | None,
    as_json: bool,
) -> None:
    """Make a model of an ONNX file, without code.

    It looks at the graph and its metadata, writes model.toml, and runs the model once. What no file says is guessed
    with a reason, and the model is served with these guesses marked, until you say better with --set or remove them
    from [guessed] in model.toml. A running `penstock up` of the directory serves the model within two seconds.
    """
    from penstock.cli.models.adding import Adding, add_model
    from penstock.cli.models.announcing import announced
    from penstock.cli.models.report import print_added

    settings = settings_with(data_dir)
    said = (*([f"kind={kind}"] if kind else ()), *said)
    asked = Adding(file=file, name=name, version=version, said=said, example=example, replace=replace)
    added = add_model(asked, Path(settings.models.directory))
    print_added(added, as_json=as_json)
    if problem := asyncio.run(announced(settings, added.name, added.version, default=default)):
        click.echo(f"penstock: {problem}", err=True)
