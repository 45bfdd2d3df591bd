"""/schema/openapi.json: Litestar's document with its schemas replaced by msgspec's own, which say what is enforced.

Litestar leaves out `additionalProperties: false`, shows integer bounds as floats, lists an automatic 400 of another
shape, and knows nothing of a body that is decoded by hand.
"""

from typing import Any

import msgspec
from litestar import Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from penstock import __version__
from penstock.api import schemas
from penstock.api.problems import MEDIA_TYPE, Problem
from penstock.errors import Internal, PenstockError, StoreUnavailable, Unauthorized
from penstock.runners import registry

_REF = "#/components/schemas/{name}"
_SECURITY: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearer": []}]
_COMMON: tuple[type[PenstockError], ...] = (Unauthorized, Internal, StoreUnavailable)
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
            plain = msgspec.json.decode(self.render_json(request, openapi_schema))
            self._rendered = msgspec.json.encode(complete(plain))
        return self._rendered


def config() -> OpenAPIConfig:
    """For Litestar."""
    return OpenAPIConfig(
        title="Penstock",
        version=__version__,
        description="Post a task, get an id, collect the result. Errors are application/problem+json.",
        path="/schema",
        render_plugins=[Json()],
        components=Components(
            security_schemes={
                "apiKey": SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header"),
                "bearer": SecurityScheme(type="http", scheme="bearer"),
            }
        ),
    )


def complete(document: Document) -> Document:
    """The document as it is served."""
    document["components"]["schemas"] = _schemas()
    for path, item in document["paths"].items():
        for operation in item.values():
            _complete_operation(operation, guarded=path.startswith("/v1/"))
    document["paths"]["/v1/tasks"]["post"]["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": _REF.format(name="TaskRequest")}}},
    }
    result = document["paths"]["/v1/tasks/{task_id}/result"]["get"]["responses"]["200"]
    result["content"] = {name: {} for name in _IMAGES} | {"application/json": {"schema": {"type": "object"}}}
    return document


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
    for error in _COMMON if guarded else _COMMON[1:]:
        _add_problem(responses, error)
    operation["responses"] = dict(sorted(responses.items()))
    if guarded:
        operation["security"] = _SECURITY


def _add_problem(responses: Document, error: type[PenstockError]) -> None:
    response = responses.setdefault(
        str(error.status),
        {"description": "", "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}}},
    )
    response["description"] = ", ".join(filter(None, [response["description"], error.code]))
