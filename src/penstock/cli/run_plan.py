"""What a `penstock submit` is going to do: which files it sends, which it leaves out, and what it asks for."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from penstock.cli.input_members import member_for_files, parse_inputs
from penstock.cli.run_records import RunRecord
from penstock.cli.sources import IMAGES, SourceFile, alone, files_of
from penstock.client import Model, Output, Shared
from penstock.client.media_types import suffix_of
from penstock.client.model_views import Member
from penstock.errors import ConfigurationError


class SubmitOptions(Struct, frozen=True, kw_only=True):
    """The options of the command line."""

    paths: Sequence[Path]
    inputs: tuple[str, ...]
    output: Path
    model: str
    params: dict[str, Any]
    priority: Literal["high", "normal", "low"]
    written: Output
    concurrency: int
    overwrite: bool
    as_json: bool


def asked_of(model: Model, options: SubmitOptions) -> dict[str, Any]:
    """Returns what is asked for every file: the model, the digest of its version, and the options."""
    digest = next((one.digest for one in model.versions if one.version == model.version), model.version)
    return {"model": options.model, "digest": digest, **said_of_all(options)}


def said_of_all(options: SubmitOptions) -> Shared:
    """Returns the options that all tasks of the run share."""
    return {"params": options.params, "output": options.written, "priority": options.priority}


def sorted_by_result(
    files: Iterable[SourceFile], record: RunRecord, *, overwrite: bool
) -> tuple[list[SourceFile], list[SourceFile], int]:
    """Returns the files whose result is there, the others, and how many of these have a result of another request."""
    skipped, left, anew = [], [], 0
    for file in files:
        if not file.is_done or overwrite:
            left.append(file)
        elif _is_same(record, file):
            skipped.append(file)
        else:
            left.append(file)
            anew += 1
    return skipped, left, anew


def _is_same(record: RunRecord, file: SourceFile) -> bool:
    try:
        return record.is_same(file)
    except OSError:  # the submit says which file cannot be read
        return False


def counted(kinds: Counter[str]) -> str:
    """Returns the kinds of files with their numbers, the most frequent first: `3 .txt, 1 hidden`."""
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())


def files_for(model: Model, options: SubmitOptions, passed_over: Counter[str]) -> list[SourceFile]:
    """Lists the tasks of the command: one for each file of its paths, or one of its inputs alone. What is left out of
    a folder is counted by its kind.

    Raises ConfigurationError if there is no file, and click.BadParameter for inputs that the model does not take.
    """
    members = model.inputs or {"image": Member()}
    kinds = {name: member.kind for name, member in members.items()}
    inputs = parse_inputs(options.inputs, kinds)
    form = options.written.get("format", "png")
    suffix = {"image": None if form == "source" else form, "data": "json"}.get(model.produces)
    if not options.paths:
        return [alone(inputs, options.output, suffix, name=options.model)]
    name, types = _member_of_files(members, inputs)
    files = files_of(options.paths, options.output, suffix, media_types=types, passed_over=passed_over)
    if not files:
        among = f" among {counted(passed_over)}; {options.model} takes {listed(types)}" if passed_over else ""
        raise ConfigurationError(f"there are no {_named(types)}{among}")
    if not inputs and members[name].kind == "image":
        return files
    return [replace(file, inputs={name: file.source, **inputs}) for file in files]


def _named(types: Sequence[str]) -> str:
    if types == IMAGES:
        return "image files"
    return f"files of {' or '.join(types)}" if types else "files"


def taken_by(model: Model, options: SubmitOptions) -> str:
    """Returns the suffixes of the files that a folder is searched for."""
    members = model.inputs or {"image": Member()}
    inputs = parse_inputs(options.inputs, {name: member.kind for name, member in members.items()})
    _, types = _member_of_files(members, inputs)
    return listed(types)


def listed(types: Sequence[str]) -> str:
    """Returns the suffixes of media types, and what is no suffix as it is."""
    return ", ".join(suffix_of(one) if "*" not in one else one for one in types) or "any file"


def _member_of_files(members: Mapping[str, Member], inputs: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """Returns the member that the files of folders are, and the types of these; without any, all are taken."""
    required = [name for name, member in members.items() if member.required]
    name = member_for_files({name: member.kind for name, member in members.items()}, required, inputs)
    return name, IMAGES if members[name].kind == "image" else members[name].media_types
