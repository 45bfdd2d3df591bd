"""The option `--input`: members of a model's input, as files, URLs or values."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import click

from penstock.client.inputs import is_url

HINT = "--input"


def parse_inputs(pairs: tuple[str, ...], kinds: Mapping[str, str]) -> dict[str, Any]:
    """Parses `name=value` pairs by the kind of each member: `image`, `file` or `json`.

    `@path` is a file, whose text is the value of a `json` member. An image or a file may also be a URL. The value of a
    `json` member is a string if it is not valid JSON. Raises click.BadParameter, with the member in its text.
    """
    members: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{pair!r} is not of the form name=value", param_hint=HINT)
        if name not in kinds:
            raise click.BadParameter(
                f"the model has no member {name!r}; it takes {', '.join(kinds) or 'none'}", param_hint=HINT
            )
        if name in members:
            raise click.BadParameter(f"{name} is given twice", param_hint=HINT)
        members[name] = _json(name, text) if kinds[name] == "json" else _file(name, text, kinds[name])
    return members


def member_for_files(kinds: Mapping[str, str], required: Collection[str], given: Collection[str]) -> str:
    """Returns the member of the input that is the file of a path: the one image, else the one file that is required,
    else the one file. Raises click.BadParameter if it could be none or several."""
    files = [name for name, kind in kinds.items() if kind != "json" and name not in given]
    images = [name for name in files if kinds[name] == "image"]
    for choice in (images, [name for name in files if name in required], files):
        if len(choice) == 1:
            return choice[0]
    if not files:
        raise click.BadParameter("the model takes no file beside what --input has", param_hint="PATHS")
    example = " ".join(f"{HINT} {name}=@path" for name in files)
    raise click.BadParameter(f"the model takes several files; say which is which: {example}", param_hint="PATHS")


def _file(name: str, text: str, kind: str) -> Path | str:
    if is_url(text):
        return text
    if not text.startswith("@"):
        raise click.BadParameter(
            f"{name} is {'an image' if kind == 'image' else 'a file'}: write {name}=@{text or 'path'}, or a URL",
            param_hint=HINT,
        )
    return _existing(name, text[1:])


def _json(name: str, text: str) -> Any:
    if text.startswith("@"):
        path = _existing(name, text[1:])
        try:
            text = path.read_text("utf-8")
        except ValueError as error:
            raise click.BadParameter(f"{name}: {path} is not text in UTF-8", param_hint=HINT) from error
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text


def _existing(name: str, path: str) -> Path:
    try:
        exists = Path(path).is_file()
    except OSError:  # such as a folder that we may not enter
        exists = False
    if not exists:
        raise click.BadParameter(f"{name}: there is no file {path or 'without a name'}", param_hint=HINT)
    return Path(path)


def _refuse_constant(constant: str) -> float:
    raise ValueError(f"{constant} is not JSON")
