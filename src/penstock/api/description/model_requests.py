"""The schema of a submit, which is one of the requests of the models that are served now."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from penstock.api.description.nullable import REF, or_null, title_of, with_nulls
from penstock.api.http.contents import Schema, component
from penstock.core.model import Model

MOST_BYTES = 512 * 1024
"""Of the schemas of all models; the models that come after that share one request, which takes any params."""

_OTHERS = "OtherModelRequest"
_LOCAL = "#/$defs/"


def add_requests(models: Sequence[Model], found: Schema) -> None:
    """Put a request for each of these models in the place of `TaskRequest`. A version other than the default one, which
    comes first, has the request of that if it takes the same."""
    general, left = found["TaskRequest"], MOST_BYTES
    names: dict[str, list[str]] = {}
    for of_name in _by_name(models):
        for model in of_name:
            left -= len(msgspec.json.encode((model.params, model.inputs)))
            same = next(
                (name for name, ids in names.items() if ids[0] == of_name[0].name and _same(model, of_name[0])), ""
            )
            name = same or (_name_of(model, found) if left > 0 else _OTHERS)
            names.setdefault(name, []).extend(_references(model, is_default=model is of_name[0]))
            if not same:
                params = _params(model, found) if left > 0 else {"type": "object"}
                found[name] = _request(general, name, params)
    for name, ids in names.items():
        found[name]["properties"]["model"] = {"type": "string"} | (
            {"const": ids[0]} if len(ids) == 1 else {"enum": ids}
        )
    found["TaskRequest"] = _one_of(names, general["description"])


def _by_name(models: Sequence[Model]) -> Iterable[list[Model]]:
    names: dict[str, list[Model]] = {}
    for model in models:
        names.setdefault(model.name, []).append(model)
    return names.values()


def _same(one: Model, other: Model) -> bool:
    return (one.params, one.inputs) == (other.params, other.inputs)


def _references(model: Model, *, is_default: bool) -> list[str]:
    """What `model` of a request says for this version."""
    return ([model.name] if is_default else []) + ([model.id] if model.versioned else [])


def _name_of(model: Model, found: Schema) -> str:
    name = f"{title_of(model.id)}Request"
    while name in found:
        name = f"{name.removesuffix('Request')}_Request"
    return name


def _request(general: Schema, name: str, params: Schema) -> Schema:
    return general | {"title": name, "properties": general["properties"] | {"params": or_null(params, "params")}}


def _params(model: Model, found: Schema) -> Schema:
    """Add what the schema of the model's params refers to, and return that schema. A definition whose name has another
    meaning already gets the name of the model in front."""
    definitions = {name: with_nulls(one) for name, one in model.params.get("$defs", {}).items()}
    root = {key: part for key, part in model.params.items() if key != "$defs"}
    if not _refers_to(definitions, [root, *definitions.values()]):
        return {"type": "object"}
    names = {name: re.sub(r"[^A-Za-z0-9._-]", "_", name) for name in definitions}
    shown = {name: _renamed(one, names) for name, one in definitions.items()}
    if any(found.get(names[name], one) != one for name, one in shown.items()):
        names = {name: f"{title_of(model.id)}{plain}" for name, plain in names.items()}
        shown = {name: _renamed(one, names) for name, one in definitions.items()}
    found.update({names[name]: one for name, one in shown.items()})
    renamed: Schema = _renamed(root, names)
    return renamed


def _refers_to(definitions: Schema, part: Any) -> bool:
    """Whether every reference in this part of a schema is to one of these definitions."""
    if isinstance(part, list):
        return all(_refers_to(definitions, one) for one in part)
    if not isinstance(part, dict):
        return True
    reference = part.get("$ref", _LOCAL)
    is_known = isinstance(reference, str) and (reference == _LOCAL or reference.removeprefix(_LOCAL) in definitions)
    return is_known and all(_refers_to(definitions, one) for one in part.values())


def _renamed(part: Any, names: dict[str, str]) -> Any:
    if isinstance(part, list):
        return [_renamed(one, names) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        key: REF.format(name=names[one.removeprefix(_LOCAL)]) if key == "$ref" else _renamed(one, names)
        for key, one in part.items()
    }


def _one_of(names: dict[str, list[str]], description: str) -> Schema:
    """The schema `TaskRequest`: one of the requests of these names, told apart by `model`."""
    mapping = {model: REF.format(name=name) for name, ids in names.items() for model in ids}
    return {
        "title": "TaskRequest",
        "description": description,
        "oneOf": [component(name) for name in names],
        "discriminator": {"propertyName": "model", "mapping": mapping},
    }
