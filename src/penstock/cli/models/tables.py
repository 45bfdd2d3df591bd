"""Prints models as tables on a terminal, or as JSON lines."""

from collections.abc import Iterable
from typing import Any

import msgspec
from rich.table import Column, Table
from rich.text import Text

from penstock.cli.terminal import add_pairs, console, ids, pairs, plain, say, state, table
from penstock.client import FaultyModel, Member, Model, Version

COLUMNS = ("kind", "version", "default", "state", "")


def models(served: Iterable[Model], faulty: Iterable[FaultyModel], *, as_json: bool) -> None:
    """Prints the models, a row for each version, and below them why others cannot be served. With `as_json` each is an
    object, and those that cannot be served have a `reason`."""
    if as_json:
        for one in (*served, *faulty):
            say(one)
        return
    rows = table(ids("model"), *(Column(name, no_wrap=True) for name in COLUMNS))
    for model in served:
        first = [plain(model.name), plain(_kind(model))]
        for version in model.versions:
            default = "yes" if version.is_default else ""
            guessed = plain(f"{len(version.guessed)} guessed" if version.guessed else "", "yellow")
            rows.add_row(*first, plain(version.version), default, _residence(version), guessed)
            first = [plain(""), plain("")]
    reasons = [plain(f"{one.name}@{one.version} on {one.worker}: {one.reason}", "red") for one in faulty]
    console().print(rows if rows.row_count else "[dim]no models[/dim]", *reasons, sep="\n")


def show(model: Model, *, as_json: bool) -> None:
    """Prints everything about a model."""
    if as_json:
        say(model)
        return
    rows = pairs()
    facts = {"name": model.name, "title": model.title, "version": model.version, "kind": _kind(model)}
    for name, value in (facts | {"licence": model.licence, "source": model.source} | model.notes).items():
        if value:
            add_pairs(rows, name, value)
    _add_versions(rows, model)
    for name, member in model.inputs.items():
        rows.add_row(plain(f"input {name}"), plain(_takes(member)))
    for name, values in _params(model).items():
        rows.add_row(plain(f"param {name}"), plain(values))
    for name, reason in model.guessed.items():
        rows.add_row(plain(f"guessed {name}", "yellow"), plain(reason))
    if model.example:
        rows.add_row("example", plain(_json(model.example.request)))
        rows.add_row("its answer", plain(_json(model.example.answer)))
    console().print(rows)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def print_state(model: Model, *, as_json: bool) -> None:
    """Prints a line with the version of the model and its state."""
    if as_json:
        say(model)
        return
    version = version_of(model)
    default = " (default)" if version.is_default else ""
    reasons = [plain(f": {on.reason}") for on in version.workers if on.reason and on.state == version.state]
    line = Text.assemble(plain(f"{model.name}@{version.version}{default}  "), _residence(version), *reasons[:1])
    console().print(line)


def version_of(model: Model) -> Version:
    """Returns the version that the model stands for."""
    found = (version for version in model.versions if version.version == model.version)
    return next(found, Version(version=model.version, digest=""))


def _add_versions(rows: Table, model: Model) -> None:
    for version in model.versions:
        mark = " (default)" if version.is_default else ""
        rows.add_row(plain(f"version {version.version}"), Text.assemble(_residence(version), mark))
        for on in version.workers:
            since = f" since {on.since[:19].replace('T', ' ')}" if on.since else ""
            memory = f", {on.memory_bytes / 2**20:,.0f} MiB" if on.memory_bytes else ""
            why = f": {on.reason}" if on.reason else ""
            rows.add_row(
                plain(f"  on {on.worker}", "dim"), Text.assemble(state(on.state), f"{since}{memory}", plain(why))
            )


def _kind(model: Model) -> str:
    """Returns the kind of a model of the repository, and of any other what it gives."""
    return str(model.notes.get("kind", model.produces))


def _residence(version: Version) -> Text:
    """Returns the best state of the version, and on how many workers it is if it is not the same on all."""
    alike = [on for on in version.workers if on.state == version.state]
    of_all = f" on {len(alike)}/{len(version.workers)}" if 0 < len(alike) < len(version.workers) else ""
    return Text.assemble(state(version.state or "no worker"), of_all)


def _takes(member: Member) -> str:
    needed = "" if member.required else ", optional"
    types = f" ({', '.join(member.media_types)})" if member.media_types else ""
    about = f": {member.description}" if member.description else ""
    return f"{member.kind}{types}{needed}{about}"


def _params(model: Model) -> dict[str, str]:
    """Returns the values that each parameter takes, as text. The schema may be a reference to one of its
    definitions."""
    schema = model.params
    name = str(schema.get("$ref", "")).rpartition("/")[2]
    properties: dict[str, dict[str, Any]] = schema.get("$defs", {}).get(name, schema).get("properties", {})
    return {
        name: "|".join(map(str, member.get("enum", [member.get("type", "any")]))) for name, member in properties.items()
    }
