"""The schema of a submit, which is one of the requests of the models that are served now."""

import re
from collections.abc import Sequence
from typing import Any

import msgspec
from loguru import logger

from penstock.api.description.nullable import REF, or_null, title_of, with_nulls
from penstock.api.http.contents import Schema, component
from penstock.core.model import Member, Model
from penstock.pixels.headers import TAKEN

MOST_BYTES = 512 * 1024
"""Most bytes that the schemas of all models take; the models after that share one request, which takes anything."""

OTHERS = "OtherModelRequest"
ANYTHING: Schema = {"type": "object"}
OF_ANY_MODEL: Schema = ANYTHING | {
    "minProperties": 1,
    "description": "The members that the model takes, as in the request of a task for it",
}

_LOCAL = "#/$defs/"


def add_requests(models: Sequence[Model], found: Schema) -> None:
    """Put a request for each of these models in the place of `TaskRequest`. A version that takes the same as the
    default one, which comes first of its name, shares the request of that."""
    general, left = found["TaskRequest"], MOST_BYTES
    names: dict[str, list[str]] = {}
    of_default: dict[str, tuple[str, Model]] = {}
    for model in models:
        left -= len(msgspec.json.encode((model.params, model.inputs)))
        name, default = of_default.get(model.name, ("", model))
        if not name or (model.params, model.inputs) != (default.params, default.inputs):
            # The default one has the name of the model alone, which generated clients keep when it is switched.
            title = title_of(model.id if model.name in of_default else model.name)
            name = _free(title, found)
            request = _request(general, name, model, found) if left > 0 else None
            name = name if request else OTHERS
            found[name] = request or _of_anything(general)
        names.setdefault(name, []).extend(_references(model, is_default=model.name not in of_default))
        of_default.setdefault(model.name, (name, model))
    for name, of_name in names.items():
        found[name]["properties"]["model"] = {"type": "string"} | _one_of_names(of_name)
    if len(names) == 1:  # client generators make nothing of a `oneOf` with one schema
        found["TaskRequest"] = found.pop(*names) | {"title": "TaskRequest"}
    elif names:
        found["TaskRequest"] = _one_of(names, general["description"])
    if all(map(_takes_one_image, models)):
        del found["UploadReference"]  # only members of other inputs refer to it
    else:
        for line in ("BatchLine", "BatchDefaults"):
            found[line]["properties"]["input"] = or_null(OF_ANY_MODEL, "input")


def _references(model: Model, *, is_default: bool) -> list[str]:
    """What `model` of a request says for this version."""
    return ([model.name] if is_default else []) + ([model.id] if model.versioned else [])


def _one_of_names(names: list[str]) -> Schema:
    return {"const": names[0]} if len(names) == 1 else {"enum": names}


def _free(title: str, found: Schema) -> str:
    """A name of letters and digits that no other schema has."""
    name = f"{title}Request"
    while name in found:
        name = f"{name.removesuffix('Request')}_Request"
    return name


def _request(general: Schema, name: str, model: Model, found: Schema) -> Schema | None:
    """The request of a model; None where what it has published as its schemas is no JSON Schema."""
    try:
        own = _input(name.removesuffix("Request"), model, found)
        members = {"params": or_null(_own(model.params, model, found), "params"), "input": own}
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        logger.bind(model=model.id, reason=repr(error)).warning("the schemas of a model cannot be described")
        return None
    return general | {"title": name, "properties": general["properties"] | members}


def _of_anything(general: Schema) -> Schema:
    members = {"params": or_null(ANYTHING, "params"), "input": ANYTHING}
    return general | {"title": OTHERS, "properties": general["properties"] | members}


# --- input ----------------------------------------------------------------------------------------------------


def _input(title: str, model: Model, found: Schema) -> Schema:
    """The schema of `input`: that of the one image of most models, or an object with the members of this one."""
    if _takes_one_image(model):
        return component("InputRequest")
    members = {name: _member(name, member, model, found) for name, member in model.inputs.items()}
    name = f"{title}Input"
    found[name] = {
        "title": name,
        "type": "object",
        "properties": members,
        "required": [name for name, member in model.inputs.items() if member.required],
        "additionalProperties": False,
    }
    return component(name)


def _takes_one_image(model: Model) -> bool:
    return [(one.kind, one.required) for one in model.inputs.values()] == [("image", True)]


def _member(name: str, member: Member, model: Model, found: Schema) -> Schema:
    shown = _file(member) if member.kind != "json" else _own(member.schema, model, found)
    if not member.required:
        shown = or_null(shown, name)
    return shown | ({"description": member.description} if member.description else {})


def _file(member: Member) -> Schema:
    types = " or ".join(member.media_types) or (TAKEN if member.kind == "image" else "any type")
    url = {"type": "string", "format": "uri", "description": f"http(s) URL, or data: URI, of a file of {types}"}
    return {"anyOf": [url, component("UploadReference")]}


# --- schemas of models ----------------------------------------------------------------------------------------


def _own(schema: Schema, model: Model, found: Schema) -> Schema:
    """Add what a schema of a model refers to, and return the schema. A definition whose name has another meaning
    already gets the name of the model in front. A schema with other references than to its own definitions is shown as
    any object."""
    definitions = {name: with_nulls(one) for name, one in schema.get("$defs", {}).items()}
    root = {key: part for key, part in schema.items() if key != "$defs"}
    if not _refers_to(definitions, [root, *definitions.values()]):
        return ANYTHING
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
    reference = part.get("$ref")
    is_known = reference is None or (str(reference).startswith(_LOCAL) and reference[len(_LOCAL) :] in definitions)
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
    mapping = {model: REF.format(name=name) for name, of_name in names.items() for model in of_name}
    return {
        "title": "TaskRequest",
        "description": description,
        "oneOf": [component(name) for name in names],
        "discriminator": {"propertyName": "model", "mapping": mapping},
    }
