"""The schemas of the OpenAPI document: every struct that a client sends or reads, as msgspec enforces it."""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from penstock.api.description.model_requests import add_requests
from penstock.api.description.nullable import REF, with_nulls
from penstock.api.http.contents import Schema, component
from penstock.api.http.problems import Problem
from penstock.api.schemas.tasks import ResponseBody
from penstock.core.model import Model
from penstock.intake.requests import RequestBody

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


def schemas(models: Sequence[Model]) -> Schema:
    """Return the schemas by name; a submit is one of the requests of these models, told apart by `model`."""
    requests, answers = [*_leaves(RequestBody)], [*_leaves(ResponseBody)]
    _, found = msgspec.json.schema_components([*requests, *answers, Problem], ref_template=REF)
    found["InputRequest"] |= {"minProperties": 1}  # client generators make no type of a `oneOf` here
    for name in ("TaskRequest", "BatchLine", "BatchDefaults"):
        found[name]["properties"]["input"] = component("InputRequest")  # without the type that msgspec writes beside it
    for name in {request.__name__ for request in requests} & found.keys():
        found[name] = with_nulls(found[name])
    found["TaskEvent"] = TASK_EVENT
    add_requests(models, found)
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
