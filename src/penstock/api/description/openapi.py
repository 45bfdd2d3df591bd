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
from litestar.openapi.spec import Components, Contact, License, SecurityScheme, Server, Tag

from penstock import __version__
from penstock.api.description import examples, specimens
from penstock.api.http.problems import MEDIA_TYPE, Problem
from penstock.api.http.query import METADATA
from penstock.api.replicate import catalogue, files, predictions, routes
from penstock.api.routes import uploads
from penstock.api.schemas import batches, operators, tasks
from penstock.api.schemas.batches import JSONL
from penstock.errors import Internal, InvalidRequest, MalformedRequest, PenstockError, StoreUnavailable, Unauthorized
from penstock.intake import requests
from penstock.models.base import registry

_REF = "#/components/schemas/{name}"
_SECURITY: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearer": []}]
_GUARDED: tuple[type[PenstockError], ...] = (MalformedRequest, Unauthorized, InvalidRequest, Internal, StoreUnavailable)
_OPEN: tuple[type[PenstockError], ...] = (MalformedRequest, InvalidRequest, Internal)
"""Every route refuses a request without a valid Host, and a query that it does not know."""
_BINARY = {"type": "string", "format": "binary"}
_BYTES = {"*/*": {"schema": _BINARY}}
_IMAGES = ("image/png", "image/jpeg", "image/webp")

_IDS = {"task_id": ("task_id", ("SubmittedView", "TaskView")), "prediction_id": ("id", ("PredictionView",))}
"""What names a task in a path: the member that says it, and the answers that have it."""
_NOT_NULL = "^(?![Nn][Uu][Ll][Ll]$)"
"""The word null is refused as a value, by `query.check_query`."""
_ANY_METADATA = {
    "name": "metadata",
    "schema": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "propertyNames": {"pattern": r"^metadata\."},
    },
    "style": "form",
    "explode": True,
    "example": {"metadata.album": "42"},
}
"""A parameter for every name that begins so: an object whose members become parameters of their own."""
_FILE = {
    "type": "object",
    "properties": {
        files.CONTENT: _BINARY,
        files.METADATA: {"type": "string", "contentMediaType": "application/json"},
    },
    "required": [files.CONTENT],
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


def config(models: Collection[str], public_url: str = "") -> OpenAPIConfig:
    """For Litestar; `models` are the names that are served, `public_url` is where, if that is known."""
    return OpenAPIConfig(
        title="Penstock",
        version=__version__,
        description="Post a task, get an id, collect the result. Errors are application/problem+json.",
        contact=Contact(name="The Penstock authors"),
        license=License(name="MIT", identifier="MIT"),
        path="/schema",
        servers=[Server(url=public_url.rstrip("/") or "/")],
        use_handler_docstrings=True,
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
    for path, item in document["paths"].items():
        for operation in item.values():
            _complete_operation(operation, guarded="/v1/" in path and "security" not in operation)
    document["components"]["examples"] = {
        code: {"summary": problem["title"], "value": problem}
        for code, problem in examples.of_problems().items()
        if code in _answered(document)
    }
    _add_links(document)
    submits = {model: {"value": examples.of_submit(model)} for model in models}
    for path in ("/v1/tasks", "/v1/tasks/quote"):
        _set_body(document, path, "TaskRequest", {"examples": submits})
    for path, request in routes.BODIES.items():
        _set_body(document, path, request.__name__, {"example": specimens.REPLICATED[request]})
    _set_body(document, "/v1/uploads", "UploadRequest", {"example": specimens.UPLOAD})
    document["paths"]["/v1/uploads/{upload_id}"]["put"]["requestBody"] = {"required": True, "content": _BYTES}
    lines = {name: {"schema": _BINARY, "example": specimens.LINES} for name in JSONL}
    _set_body(document, "/v1/batches", "BatchRequest", {"example": specimens.BATCH})
    document["paths"]["/v1/batches"]["post"]["requestBody"]["content"] |= lines
    rows = {"schema": _BINARY | {"contentSchema": _schema("LineView")}, "example": specimens.ENDED}
    _set_content(document, "/v1/batches/{batch_id}/results", dict.fromkeys(JSONL, rows))
    document["paths"][f"{predictions.PREFIX}/files"]["post"]["requestBody"] = {
        "required": True,
        "content": {files.MEDIA_TYPE: {"schema": _FILE}},
    }
    images = {name: {"schema": _BINARY} for name in _IMAGES}
    score = {"application/json": {"schema": {"type": "object"}, "example": specimens.SCORE}}
    _set_content(document, "/v1/tasks/{task_id}/result", images | score)
    _set_content(document, "/v1/tasks/{task_id}/result", images, status="206")
    for status in ("200", "206"):
        _set_content(document, f"{predictions.PREFIX}/predictions/{{output_id}}/output/{{file_name}}", images, status)
    events = {"schema": {"anyOf": [{"type": "string"}, _schema("TaskEvent")]}, "example": specimens.EVENTS}
    _set_content(document, "/v1/tasks/{task_id}/events", {"text/event-stream": events})
    _set_content(document, "/metrics", {"text/plain": {"schema": {"type": "string"}, "example": specimens.METRICS}})
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _answered(document: Document) -> set[str]:
    """The codes of all refusals; others are only found in a task that has failed."""
    operations = [operation for item in document["paths"].values() for operation in item.values()]
    refusals = [r for o in operations for status, r in o["responses"].items() if status >= "400"]
    return {code for refusal in refusals for code in refusal["description"].split(", ")}


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


def _schemas(models: Collection[str]) -> Document:
    """Every struct of the wire, and a request for every model, told apart by `model`."""
    modules = (requests, tasks, operators, batches, uploads, routes, catalogue, files)
    defined = [found for module in modules for found in vars(module).values()]
    types = [t for t in defined if isinstance(t, type) and issubclass(t, requests.RequestBody | tasks.ResponseBody)]
    runners = registry()
    params, components = msgspec.json.schema_components(
        [*(runners[model].params for model in models), *types, Problem], ref_template=_REF
    )
    for base in ("RequestBody", "ResponseBody", "BulkView", "BatchOptions", "PredictionBody"):
        components.pop(base, None)
    components["InputRequest"] |= {"minProperties": 1}  # of a oneOf generators make nothing typed
    for name in {t.__name__ for t in types if issubclass(t, requests.RequestBody)} & components.keys():
        _let_null_stand_for_nothing(components[name])
    general = components["TaskRequest"]
    names = {model: _request_name(model) for model in models}
    for (model, name), of_model in zip(names.items(), params, strict=False):
        _let_null_stand_for_nothing(components.get(of_model.get("$ref", "").rpartition("/")[2], {}))
        params_of_model = _or_null(of_model, "params")
        components[name] = general | {
            "title": name,
            "properties": general["properties"]
            | {"model": {"type": "string", "const": model}, "params": params_of_model},
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


def _let_null_stand_for_nothing(of_request: Document) -> None:
    """In every member that may be left out, as `decoding.decode` has it."""
    members = of_request.get("properties", {})
    for name in members.keys() - set(of_request.get("required", ())):
        members[name] = _or_null(members[name], name)


def _or_null(schema: Document, name: str) -> Document:
    """The same, or null; null for what is in an object of any names too. A default that is an object says no more than
    those of its members, and generators fail at it."""
    around = {key: schema[key] for key in ("default", "description") if key in schema}
    if isinstance(around.get("default"), dict):
        del around["default"]
    inner = {key: part for key, part in schema.items() if key not in ("default", "description")}
    if isinstance(inner.get("additionalProperties"), dict):
        inner["additionalProperties"] = _or_null(inner["additionalProperties"], name)
    alternatives = [_titled(one, name) for one in inner.get("anyOf", [inner]) if one != _NULL]
    return around | {"anyOf": [*alternatives, _NULL]}


def _titled(schema: Document, name: str) -> Document:
    """With the name that generators give to the type of a member: they name an alternative by its number else."""
    if "items" in schema:
        return schema | {"items": _titled(schema["items"], f"{name}_item")}
    return schema | {"title": _title(name)} if {"enum", "additionalProperties"} & schema.keys() else schema


_NULL = {"type": "null"}

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
    return _title(model) + "Request"


def _title(name: str) -> str:
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", name))


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
        if parameter["in"] == "query" and parameter["schema"] == {"type": "string"}:
            parameter["schema"]["pattern"] = _NOT_NULL
        if parameter["name"] == METADATA:
            parameter |= _ANY_METADATA
        if parameter["name"] in examples.PARAMETERS:
            parameter["example"] = examples.PARAMETERS[parameter["name"]]
    operation.setdefault("security", _SECURITY if guarded else [])


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
    known = [code for code in response["description"].split(", ") if code]
    response["description"] = ", ".join(dict.fromkeys([*known, error.code]))
