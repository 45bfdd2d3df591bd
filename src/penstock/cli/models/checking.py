"""The part of `penstock models check` that is for models without code: each version answers its example, in a process
of its own."""

from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from msgspec import Struct
from rich.text import Text

from penstock.cli.terminal import console, plain
from penstock.core.model import split_id
from penstock.errors import ConfigurationError
from penstock.models.declared import FILE
from penstock.models.declared.document import InvalidModel
from penstock.models.inspection.child import in_child
from penstock.models.inspection.verify import VerifiedModel, VerifyRequest
from penstock.models.repository.tree import scan


class CheckedVersion(Struct, frozen=True, kw_only=True):
    """One version: what was seen of it, or the line that says why it is not served."""

    id: str
    folder: str
    verified: VerifiedModel | None = None
    problem: str = ""


def check_models(reference: str, directory: Path, *, as_json: bool) -> int:
    """Check the versions that a reference means, print a line for each, and return the exit status: 1 if one failed.
    Raises ConfigurationError when it means none."""
    out, failed = console(), False
    for name, folder in _versions(reference, directory):
        checked = _checked(name, folder)
        failed |= checked.verified is None
        if as_json:
            click.echo(msgspec.json.encode(checked).decode())
        else:
            out.print(_line(checked))
    return 1 if failed else 0


def _versions(reference: str, directory: Path) -> Iterator[tuple[str, Path]]:
    folder = Path(reference)
    if (folder / FILE).is_file():
        yield reference, folder
        return
    name, version = split_id(reference)
    found = scan(directory)
    versions = [v for v in found.versions.values() if v.name == name and version in (None, v.version)]
    for place, why in found.refused.items():
        if place == name or place == f"{name}/{version}":
            raise InvalidModel(f"{directory / place}: {why}")
    if not versions:
        known = ", ".join(sorted(found.versions)) or "no model"
        raise InvalidModel(f"{reference} is no folder with a {FILE}, and no model in {directory}, which has {known}")
    for one in versions:
        yield one.id, one.folder


def _checked(name: str, folder: Path) -> CheckedVersion:
    try:
        verified = in_child("verify", VerifyRequest(folder=str(folder.absolute())), VerifiedModel, folder=folder)
    except ConfigurationError as error:
        return CheckedVersion(id=name, folder=str(folder), problem=str(error))
    return CheckedVersion(id=name, folder=str(folder), verified=verified)


def _line(checked: CheckedVersion) -> Text:
    seen = checked.verified
    if seen is None:
        return Text.assemble(("fail ", "red"), (f"{checked.id}  ", "bold"), plain(checked.problem))
    example = f"answers its example as it should, in {seen.took_s:.2f} s" if seen.has_example else "it has no example"
    guessed = f"; guessed: {', '.join(seen.guessed)}" if seen.guessed else ""
    return Text.assemble(
        ("ok   ", "green"), (f"{checked.id}  ", "bold"), seen.kind, f", {example}", (guessed, "yellow")
    )
