"""/schema/openapi.json: Litestar's document with its schemas replaced by msgspec's own, which say what is enforced.

Litestar leaves out `additionalProperties: false`, shows integer bounds as floats, lists an automatic 400 of another
shape, and knows nothing of a body that is decoded by hand. Examples come from `examples`.
"""

import re
from collections.abc import Collection
from typing import Any

import msgspec
from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag

from penstock import __version__
from penstock.api import (
    batch_views,
    examples,
    overview,
    predictions,
    replicate,
    replicate_catalogue,
    replicate_files,
    schemas,
    specimens,
    uploads,
)
from penstock.api.batch_views import JSONL
from penstock.api.problems import MEDIA_TYPE, Problem
from penstock.errors import Internal, PenstockError, StoreUnavailable, Unauthorized
from penstock.runners.base import registry

_REF = "#/components/schemas/{name}"
_SECURITY: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearer": []}]
_GUARDED: tuple[type[PenstockError], ...] = (Unauthorized, Internal, StoreUnavailable)
_OPEN: tuple[type[PenstockError], ...] = (Internal,)
_OF_SUBMIT = ("TaskView", "QuoteView")
_BYTES = {"*/*": {"schema": {"type": "string", "format": "binary"}}}
_IMAGES = ("image/png", "image/jpeg", "image/webp")

_IDS = {"task_id": ("task_id", ("SubmittedView", "TaskView")), "prediction_id": ("id", ("PredictionView",))}
"""What names a task in a path: the member that says it, and the answers that have it."""
_FILTERS = ("model", "batch_id")
_NOT_NULL = "^(?![Nn][Uu][Ll][Ll]$)"
"""The word null is refused as a filter, by `guards.refuse_null`."""
_FILE = {
    "type": "object",
    "properties": {
        replicate_files.CONTENT: {"type": "string", "format": "binary"},
        replicate_files.METADATA: {"type": "string", "contentMediaType": "application/json"},
    },
    "required": [replicate_files.CONTENT],
}

Document = dict[str, Any]


class Json(JsonRenderPlugin):
    """Serves the completed document."""

    def __init__(self, models: Collection[str]) -> None:
        super().__init__()
        self._models = models
        self._rendered: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: Document) -> bytes:
        """The document, made once."""
        if self._rendered is None:
            self._rendered = complete(openapi_schema, self._models)
        return self._rendered


def config(models: Collection[str]) -> OpenAPIConfig:
    """For Litestar; `models` are the names that are served."""
    return OpenAPIConfig(
        title="Penstock",
        version=__version__,
        description="Post a task, get an id, collect the result. Errors are application/problem+json.",
        path="/schema",
        tags=[
            Tag("tasks", "Submit, watch, cancel, collect."),
            Tag("uploads", "Files that are too big for JSON."),
            Tag("batches", "Many tasks from one request."),
            Tag("models", "What is served, and with which parameters."),
            Tag("operation", "Who works, how much waits; pause, purge, drain."),
            Tag("replicate", "The same tasks in the words of Replicate's API, for its clients."),
            Tag("health", "For orchestrators and Prometheus; no key."),
        ],
        render_plugins=[Json(models)],
        components=Components(
            security_schemes={
                "apiKey": SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header"),
                "bearer": SecurityScheme(type="http", scheme="bearer"),
                "uploadToken": SecurityScheme(type="apiKey", name="token", security_scheme_in="query"),
                "outputToken": SecurityScheme(type="apiKey", name="token", security_scheme_in="query"),
            }
        ),
    )


def complete(litestars: Document, models: Collection[str]) -> bytes:
    """The document as it is served, for these models; the one given stays as it is."""
    document = msgspec.json.decode(msgspec.json.encode(litestars))
    document["components"]["schemas"] = _schemas(models)
    document["components"]["examples"] = {
        code: {"summary": problem["title"], "value": problem} for code, problem in examples.of_problems().items()
    }
    for path, item in document["paths"].items():
        for operation in item.values():
            _complete_operation(operation, guarded="/v1/" in path and "security" not in operation)
    _add_links(document)
    submits = {model: {"value": examples.of_submit(model)} for model in models}
    _set_body(document, "/v1/tasks", "TaskRequest", {"examples": submits})
    for path, request in replicate.BODIES.items():
        _set_body(document, path, request.__name__, {"example": specimens.REPLICATED[request]})
    _set_body(document, "/v1/uploads", "UploadRequest", {"example": specimens.UPLOAD})
    document["paths"]["/v1/uploads/{upload_id}"]["put"]["requestBody"] = {"required": True, "content": _BYTES}
    lines = {name: {"schema": {"type": "string", "format": "binary"}, "example": specimens.LINES} for name in JSONL}
    _set_body(document, "/v1/batches", "BatchRequest", {"example": specimens.BATCH})
    document["paths"]["/v1/batches"]["post"]["requestBody"]["content"] |= lines
    ended = {JSONL[0]: {"schema": {"anyOf": [{"type": "string"}, _schema("LineView")]}, "example": specimens.ENDED}}
    _set_content(document, "/v1/batches/{batch_id}/results", ended)
    document["paths"][f"{predictions.PREFIX}/files"]["post"]["requestBody"] = {
        "required": True,
        "content": {replicate_files.MEDIA_TYPE: {"schema": _FILE}},
    }
    document["paths"]["/v1/tasks"]["post"]["responses"]["200"]["content"] = {"application/json": _one_of(*_OF_SUBMIT)}
    images = {name: {"schema": {"type": "string", "format": "binary"}} for name in _IMAGES}
    score = {"application/json": {"schema": {"type": "object"}, "example": specimens.SCORE}}
    _set_content(document, "/v1/tasks/{task_id}/result", images | score)
    _set_content(document, "/v1/tasks/{task_id}/result", images, status="206")
    for status in ("200", "206"):
        _set_content(document, f"{predictions.PREFIX}/predictions/{{output_id}}/output/{{file_name}}", images, status)
    events = {"schema": {"anyOf": [{"type": "string"}, _schema("TaskEvent")]}, "example": specimens.EVENTS}
    _set_content(document, "/v1/tasks/{task_id}/events", {"text/event-stream": events})
    _set_content(document, "/metrics", {"text/plain": {"schema": {"type": "string"}, "example": specimens.METRICS}})
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _add_links(document: Document) -> None:
    """From every answer that is about one task to what can be done with it, in the same words."""
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    links = {
        operation["operationId"]: {
            "operationId": operation["operationId"],
            "parameters": {parameter["name"]: f"$response.body#/{_IDS[parameter['name']][0]}"},
        }
        for operation in operations
        for parameter in operation.get("parameters", ())
        if parameter["name"] in _IDS
    }
    document["components"]["links"] = links
    for response in (response for operation in operations for response in operation["responses"].values()):
        schema = response.get("content", {}).get("application/json", {}).get("schema", {})
        shown = schema.get("$ref", "").rpartition("/")[2]
        known = [parameter for parameter, (_, answers) in _IDS.items() if shown in answers]
        names = [name for name, link in links.items() if known and known[0] in link["parameters"]]
        if names:
            response["links"] = {name: {"$ref": f"#/components/links/{name}"} for name in names}


def _set_body(document: Document, path: str, name: str, example: Document) -> None:
    content = {"application/json": {"schema": _schema(name)} | example}
    document["paths"][path]["post"]["requestBody"] = {"required": True, "content": content}


def _set_content(document: Document, path: str, content: Document, status: str = "200") -> None:
    document["paths"][path]["get"]["responses"][status]["content"] = content


def _schema(name: str) -> Document:
    return {"$ref": _REF.format(name=name)}


def _one_of(*names: str) -> Document:
    return {
        "schema": {"oneOf": [_schema(name) for name in names]},
        "examples": {name: {"value": _ANSWERS[name]} for name in names},
    }


def _schemas(models: Collection[str]) -> Document:
    """Every struct of the wire, and a request for every model, told apart by `model`."""
    modules = (schemas, overview, batch_views, uploads, replicate, replicate_catalogue, replicate_files)
    defined = [found for module in modules for found in vars(module).values()]
    types = [t for t in defined if isinstance(t, type) and issubclass(t, schemas.Ask | schemas.View)]
    runners = registry()
    params, components = msgspec.json.schema_components(
        [*(runners[model].params for model in models), *types, Problem], ref_template=_REF
    )
    for base in ("Ask", "View", "PredictionAsk"):
        components.pop(base, None)
    components["InputRequest"] |= {"minProperties": 1, "maxProperties": 1}  # of a oneOf generators make nothing typed
    general = components["TaskRequest"]
    names = {model: _request_name(model) for model in models}
    for (model, name), of_model in zip(names.items(), params, strict=False):
        components[name] = general | {
            "title": name,
            "properties": general["properties"]
            | {"model": {"type": "string", "const": model}, "params": of_model | {"default": {}}},
        }
    components["TaskEvent"] = _EVENT
    components["TaskRequest"] = {
        "title": "TaskRequest",
        "description": general["description"],
        "oneOf": [_schema(name) for name in names.values()],
        "discriminator": {
            "propertyName": "model",
            "mapping": {model: _REF.format(name=name) for model, name in names.items()},
        },
    }
    return components


_EVENT = {
    "title": "TaskEvent",
    "description": "One event of the stream, for tools that read it event by event; for others it is a string.",
    "type": "object",
    "properties": {
        "id": {"type": "string"},
        "event": {"enum": ["status", "progress", "completed"]},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"oneOf": [_schema("TaskView"), _schema("ProgressView")]},
        },
    },
    "required": ["id", "event", "data"],
}


def _request_name(model: str) -> str:
    """superres-x4: SuperresX4Request."""
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", model)) + "Request"


def _complete_operation(operation: Document, *, guarded: bool) -> None:
    responses = {
        status: response
        for status, response in operation["responses"].items()
        if status < "400" or MEDIA_TYPE in response.get("content", {})
    }
    for error in _GUARDED if guarded else _OPEN:
        _add_problem(responses, error)
    operation["responses"] = dict(sorted(responses.items()))
    for response in operation["responses"].values():
        _add_examples(response)
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _of_parameter(parameter["schema"])
        if parameter["name"] in _FILTERS:
            parameter["schema"]["pattern"] = _NOT_NULL
        if parameter["name"] in examples.PARAMETERS:
            parameter["example"] = examples.PARAMETERS[parameter["name"]]
    if guarded:
        operation["security"] = _SECURITY


def _add_examples(response: Document) -> None:
    """An answer's is that of its schema, a refusal's those of the codes in its description."""
    for media_type, content in response.get("content", {}).items():
        name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
        if media_type == MEDIA_TYPE:
            found = response["description"].split(", ")
            content["examples"] = {code: {"$ref": f"#/components/examples/{code}"} for code in found}
        elif name in _ANSWERS:
            content["example"] = _ANSWERS[name]


_ANSWERS = examples.of_answers()


def _of_parameter(schema: Document) -> Document:
    """A parameter is there or not, never null; and bounds of integers are integers."""
    around = {name: v for name, v in schema.items() if name not in ("oneOf", "description")}
    present = [s for s in schema.get("oneOf", [{}]) if s != {"type": "null"}]
    return {n: int(v) if isinstance(v, float) and v.is_integer() else v for n, v in (present[0] | around).items()}


def _add_problem(responses: Document, error: type[PenstockError]) -> None:
    response = responses.setdefault(
        str(error.status),
        {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}},
    )
    response["description"] = ", ".join(filter(None, [response["description"], error.code]))
