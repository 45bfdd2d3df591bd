"""The schemas of the OpenAPI document: every struct that a client sends or reads, as msgspec enforces it."""

import re
from collections.abc import Collection, Iterator

import msgspec
from msgspec import Struct

from penstock.api.http.contents import Schema, component
from penstock.api.http.problems import Problem
from penstock.api.schemas.tasks import ResponseBody
from penstock.intake.requests import RequestBody
from penstock.models.base import registry

_REF = component("{name}")["$ref"]

_NULL = {"type": "null"}

TASK_EVENT: Schema = {
    "title": "TaskEvent",
    "description": "One event of the stream, for tools that read it event by event; for others it is a string.",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "event": {"enum": ["status", "progress", "completed"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"oneOf": [component("TaskView"), component("ProgressView")]},
        },
    },
    "required": ["id", "event", "data"],
}


def schemas(models: Collection[str]) -> Schema:
    """Return the schemas by name; a submit is one of the requests of these models, which differ in `params`."""
    runners = registry()
    requests, answers = [*_leaves(RequestBody)], [*_leaves(ResponseBody)]
    params, found = msgspec.json.schema_components(
        [*(runners[model].params for model in models), *requests, *answers, Problem], ref_template=_REF
    )
    found["InputRequest"] |= {"minProperties": 1}  # client generators make no type of a `oneOf` here
    for name in {request.__name__ for request in requests} & found.keys():
        _allow_null(found[name])
    general = found["TaskRequest"]
    names = {model: f"{_title(model)}Request" for model in models}
    for (model, name), of_model in zip(names.items(), params, strict=False):
        _allow_null(found.get(of_model.get("$ref", "").rpartition("/")[2], {}))
        members = {"model": {"type": "string", "const": model}, "params": _or_null(of_model, "params")}
        found[name] = general | {"title": name, "properties": general["properties"] | members}
    found["TaskEvent"] = TASK_EVENT
    found["TaskRequest"] = _one_of(names, general["description"])
    return dict(sorted(found.items()))  # else their order would be that of the imports


def wire_types() -> dict[str, type[Struct]]:
    """Return the structs of requests and answers by name; one that is only a base of others is not among them."""
    return {leaf.__name__: leaf for base in (RequestBody, ResponseBody) for leaf in _leaves(base)}


def _leaves(base: type[Struct]) -> Iterator[type[Struct]]:
    for kind in base.__subclasses__():
        if kind.__subclasses__():
            yield from _leaves(kind)
        else:
            yield kind


def _one_of(names: dict[str, str], description: str) -> Schema:
    """The schema `TaskRequest`: one of the requests of these names, told apart by `model`."""
    mapping = {model: _REF.format(name=name) for model, name in names.items()}
    return {
        "title": "TaskRequest",
        "description": description,
        "oneOf": [component(name) for name in names.values()],
        "discriminator": {"propertyName": "model", "mapping": mapping},
    }


def _allow_null(request: Schema) -> None:
    """Let every member that may be left out be null too, which `decoding.decode` takes for the same."""
    members = request.get("properties", {})
    for name in members.keys() - set(request.get("required", ())):
        members[name] = _or_null(members[name], name)


def _or_null(schema: Schema, name: str) -> Schema:
    """The schema or null, also for the values of an object with any names.

    A default that is an object is left out: it repeats the defaults of its members, and client generators fail at it.
    """
    around = {key: schema[key] for key in ("default", "description") if key in schema}
    if isinstance(around.get("default"), dict):
        del around["default"]
    inner = {key: part for key, part in schema.items() if key not in ("default", "description")}
    if isinstance(inner.get("additionalProperties"), dict):
        inner["additionalProperties"] = _or_null(inner["additionalProperties"], name)
    alternatives = [_titled(one, name) for one in inner.get("anyOf", [inner]) if one != _NULL]
    return around | {"anyOf": [*alternatives, _NULL]}


def _titled(schema: Schema, name: str) -> Schema:
    """The schema with a title, after which client generators name the type; without one they number it."""
    if "items" in schema:
        return schema | {"items": _titled(schema["items"], f"{name}_item")}
    return schema | {"title": _title(name)} if {"enum", "additionalProperties"} & schema.keys() else schema


def _title(name: str) -> str:
    """Turns superres-x4 into SuperresX4, as names of types are written."""
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", name))
