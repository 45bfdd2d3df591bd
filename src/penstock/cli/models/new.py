"""`penstock models new`: writes a model to begin with, and a test of it that passes."""

import re
from pathlib import Path

import click

MODEL = '''"""The model {name}. Try it: penstock try {file} photo.jpg"""

import numpy as np

from penstock.models.base import BaseModelRunner, Card
from penstock.models.registry import model_runner


@model_runner("{name}")
class {cls}(BaseModelRunner):
    """Mean brightness of an image: 0 is black, 1 is white."""

    card = Card(title="{title}", produces="data")

    def load_model(self):
        """Called once in a worker, before the first task: open files and networks here."""
        self.weights = np.array([0.299, 0.587, 0.114], np.float32)

    def prepare(self, input_data):
        """Called for each task, beside other tasks: from bytes to what the network takes."""
        return input_data["image"].image().rgb.astype(np.float32) / 255

    def infer(self, tensor):
        """Called for each task, one after the other: what needs the device."""
        return (tensor @ self.weights).mean()

    def postprocess(self, output):
        """Called for each task, beside other tasks: from the output to a dict, an image, an array or bytes."""
        return {{"brightness": float(output)}}
'''

TEST = '''"""Run it with pytest. It needs no server."""

from pathlib import Path

from penstock.conformance import conformance

MODEL = Path(__file__).with_name("{file}")


def test_the_model_keeps_the_contract_of_a_runner():
    assert conformance(f"{{MODEL}}:{cls}").failures == []
'''


NEXT = {
    "penstock try {model} photo.jpg": "run it here, without a server",
    "penstock models check {model}": "see whether it keeps the contract",
    "penstock up --models {model} --reload": "serve it, and each edit",
}
"""Command -> what it is for."""


@click.command()
@click.argument("name")
@click.option(
    "--directory", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Where to write them [.]."
)
def new(name: str, directory: Path) -> None:
    """Write a model of your own to begin with, and a test of it that passes."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]{0,63}", name):
        raise click.BadParameter(f"{name!r} is no name for a model: take letters, digits, - and _, a letter first")
    words = re.findall(r"[a-z0-9]+", name.lower())
    members = {
        "name": name,
        "file": f"{'_'.join(words)}.py",
        "cls": "".join(map(str.capitalize, words)),
        "title": " ".join(words).capitalize(),
    }
    model, test = directory / members["file"], directory / f"test_{members['file']}"
    for path in (model, test):
        if path.exists():
            raise click.ClickException(f"{path} exists already; nothing was written")
    directory.mkdir(parents=True, exist_ok=True)
    model.write_text(MODEL.format_map(members))
    test.write_text(TEST.format_map(members))
    click.echo(f"wrote {model} and {test}\n")
    for command, what in NEXT.items():
        click.echo(f"  {what}\n    {command.format(model=model)}")
