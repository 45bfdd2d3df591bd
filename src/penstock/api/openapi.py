"""/schema/openapi.json: Litestar's document with its schemas replaced by msgspec's own, which say what is enforced.

Litestar leaves out `additionalProperties: false`, shows integer bounds as floats, lists an automatic 400 of another
shape, and knows nothing of a body that is decoded by hand.
"""

from typing import Any

import msgspec
from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme, Tag

from penstock import __version__
from penstock.api import schemas
from penstock.api.problems import MEDIA_TYPE, Problem
from penstock.errors import Internal, PenstockError, StoreUnavailable, Unauthorized
from penstock.runners.base import registry

_REF = "#/components/schemas/{name}"
_SECURITY: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearer": []}]
_GUARDED: tuple[type[PenstockError], ...] = (Unauthorized, Internal, StoreUnavailable)
_OPEN: tuple[type[PenstockError], ...] = (Internal,)
_IMAGES = ("image/png", "image/jpeg", "image/webp")

Document = dict[str, Any]


class Json(JsonRenderPlugin):
    """Serves the completed document."""

    def __init__(self) -> None:
        super().__init__()
        self._rendered: bytes | None = None

    def render(self, request: Request[Any, Any, Any], openapi_schema: Document) -> bytes:
        """The document, made once."""
        if self._rendered is None:
            self._rendered = complete(openapi_schema)
        return self._rendered


def config() -> OpenAPIConfig:
    """For Litestar."""
    return OpenAPIConfig(
        title="Penstock",
        version=__version__,
        description="Post a task, get an id, collect the result. Errors are application/problem+json.",
        path="/schema",
        tags=[
            Tag("tasks", "Submit, watch, cancel, collect."),
            Tag("models", "What is served, and with which parameters."),
            Tag("operation", "Who works, and how much waits."),
            Tag("health", "For orchestrators and Prometheus; no key."),
        ],
        render_plugins=[Json()],
        components=Components(
            security_schemes={
                "apiKey": SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header"),
                "bearer": SecurityScheme(type="http", scheme="bearer"),
            }
        ),
    )


def complete(litestars: Document) -> bytes:
    """The document as it is served; the one given stays as it is."""
    document = msgspec.json.decode(msgspec.json.encode(litestars))
    document["components"]["schemas"] = _schemas()
    for path, item in document["paths"].items():
        for operation in item.values():
            _complete_operation(operation, guarded=path.startswith("/v1/"))
    document["paths"]["/v1/tasks"]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF.format(name="TaskRequest")}}},
    }
    answers = [{"$ref": _REF.format(name=name)} for name in ("TaskView", "QuoteView")]
    document["paths"]["/v1/tasks"]["post"]["responses"]["200"]["content"]["application/json"]["schema"] = {
        "oneOf": answers
    }
    _set_content(document, "/v1/tasks/{task_id}/result", [*_IMAGES, "application/json"])
    _set_content(document, "/v1/tasks/{task_id}/result", [*_IMAGES], status="206")
    _set_content(document, "/v1/tasks/{task_id}/events", ["text/event-stream"])
    _set_content(document, "/metrics", ["text/plain"])
    return msgspec.json.format(msgspec.json.encode(document), indent=2)


def _set_content(document: Document, path: str, media_types: list[str], status: str = "200") -> None:
    document["paths"][path]["get"]["responses"][status]["content"] = {name: {} for name in media_types}


def _schemas() -> Document:
    """Every struct of the wire, and the params of every model."""
    types = [t for t in vars(schemas).values() if isinstance(t, type) and issubclass(t, schemas.Ask | schemas.View)]
    runners = registry()
    _, components = msgspec.json.schema_components(
        [*types, Problem, *(runner.params for runner in runners.values())], ref_template=_REF
    )
    for base in ("Ask", "View"):
        components.pop(base, None)
    components["TaskRequest"]["properties"]["params"] = {
        "description": "Depends on the model.",
        "anyOf": [
            {"title": name, "allOf": [{"$ref": _REF.format(name=runner.params.__name__)}]}
            for name, runner in sorted(runners.items())
        ],
        "default": {},
    }
    return components


def _complete_operation(operation: Document, *, guarded: bool) -> None:
    responses = {
        status: response
        for status, response in operation["responses"].items()
        if status < "400" or MEDIA_TYPE in response.get("content", {})
    }
    for error in _GUARDED if guarded else _OPEN:
        _add_problem(responses, error)
    operation["responses"] = dict(sorted(responses.items()))
    for parameter in operation.get("parameters", ()):
        parameter["schema"] = _of_parameter(parameter["schema"])
    if guarded:
        operation["security"] = _SECURITY


def _of_parameter(schema: Document) -> Document:
    """A parameter is there or not, never null; and bounds of integers are integers."""
    present = [s for s in schema.get("oneOf", [schema]) if s != {"type": "null"}]
    return {name: int(v) if isinstance(v, float) and v.is_integer() else v for name, v in present[0].items()}


def _add_problem(responses: Document, error: type[PenstockError]) -> None:
    response = responses.setdefault(
        str(error.status),
        {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}},
    )
    response["description"] = ", ".join(filter(None, [response["description"], error.code]))
