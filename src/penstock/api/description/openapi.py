"""/schema/openapi.json: Litestar's document, completed with what Litestar does not know.

Litestar leaves out `additionalProperties: false`, shows the bounds of integers as floats, documents an automatic 400 of
another shape, and cannot see a body that a handler decodes itself. So msgspec's schemas, which are what is enforced,
replace its own (`components`), and each operation is completed from what its handler declares (`operations`).
"""

from collections.abc import Sequence
from typing import Any

import msgspec
from litestar import Litestar, Request
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, Contact, License, Reference, SecurityScheme, Server, Tag

from penstock import __version__
from penstock.api.description import components, operations
from penstock.api.http.contents import Schema
from penstock.core.model import Model
from penstock.intake.models import Catalogue

TAGS = {
    "tasks": "Submit, watch, cancel and collect tasks.",
    "uploads": "Files that are too big for JSON.",
    "batches": "Many tasks from one request.",
    "models": "The models that are served, and their parameters.",
    "operation": "Workers and queues: inspect, pause, purge and drain them.",
    "keys": "API keys that are made and ended while the server runs, task tokens, and the audit.",
    "tenants": "Who there is, and what each may use.",
    "replicate": "The same tasks in the words of Replicate's API, for its clients.",
    "health": "For orchestrators and Prometheus; no API key needed.",
}

SECURITY_SCHEMES: dict[str, SecurityScheme | Reference] = {
    "apiKey": SecurityScheme(type="apiKey", name="x-api-key", security_scheme_in="header"),
    "bearer": SecurityScheme(type="http", scheme="bearer"),
    "uploadToken": SecurityScheme(type="apiKey", name="token", security_scheme_in="query"),
    "taskToken": SecurityScheme(type="apiKey", name="token", security_scheme_in="query"),
    "outputToken": SecurityScheme(type="apiKey", name="token", security_scheme_in="query"),
}


class CompletedJson(JsonRenderPlugin):
    """Serves the completed document, which is made at the first request for it, and again when the models change."""

    def __init__(self) -> None:
        super().__init__()
        self._models: tuple[Model, ...] | None = None
        self._rendered = b""

    def render(self, request: Request[Any, Any, Any], openapi_schema: Schema) -> bytes:
        """Return the document as JSON."""
        models = described_models(request.app.state.services.models)
        if models != self._models:
            self._models, self._rendered = models, complete(request.app, openapi_schema, models)
        return self._rendered


def described_models(catalogue: Catalogue) -> tuple[Model, ...]:
    """Return every version by the name of its model, the default one first."""
    defaults = {model.name: model for model in catalogue.defaults()}
    versions = [one.model for one in catalogue.all()]
    return tuple(sorted(versions, key=lambda one: (one.name, one is not defaults[one.name])))


def config(public_url: str = "") -> OpenAPIConfig:
    """Return Litestar's configuration of a server at `public_url`, if that is known."""
    return OpenAPIConfig(
        title="Penstock",
        version=__version__,
        description="Post a task, get an id, collect the result. Errors are application/problem+json.",
        contact=Contact(name="The Penstock authors"),
        license=License(name="MIT", identifier="MIT"),
        path="/schema",
        servers=[Server(url=public_url.rstrip("/") or "/")],  # "/" is where the document itself was read
        use_handler_docstrings=True,
        tags=[Tag(name, description) for name, description in TAGS.items()],
        render_plugins=[CompletedJson()],
        components=Components(security_schemes=SECURITY_SCHEMES),
    )


def complete(app: Litestar, litestars: Schema, models: Sequence[Model]) -> bytes:
    """Return the document of `app` with these models as JSON; `litestars`, from which it is made, does not change."""
    document = msgspec.json.decode(msgspec.json.encode(litestars))
    document["components"]["schemas"] = components.schemas(models)
    declared = operations.declared_by(app)
    found = [(path, operation) for path, item in document["paths"].items() for operation in item.values()]
    for path, operation in found:
        operations.complete(operation, path, *declared[operation["operationId"]], models)
    operations.open_to_tokens(app, [operation for _, operation in found])
    all_ = [operation for _, operation in found]
    document["components"]["examples"] = operations.problem_examples(all_)
    document["components"]["links"] = operations.link(all_)
    return msgspec.json.format(msgspec.json.encode(document), indent=2)
