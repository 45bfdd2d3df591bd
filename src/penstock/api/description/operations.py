"""The operations of the OpenAPI document: contents, refusals, parameters, examples and links."""

from collections.abc import Mapping, Sequence
from typing import Any

from litestar import Litestar
from litestar.handlers import HTTPRouteHandler
from litestar.routes import HTTPRoute

from penstock.api.description.examples import answers, parameters, requests
from penstock.api.http.contents import Content, Contents, Schema, component, described
from penstock.api.http.problems import MEDIA_TYPE
from penstock.api.http.query import METADATA
from penstock.api.http.scopes import BY_TOKEN, TENANT_PARAMETER, scope_of, takes_all_tenants, takes_tenant
from penstock.core.access import NAME
from penstock.core.model import Model
from penstock.errors import (
    Forbidden,
    Internal,
    InvalidRequest,
    MalformedRequest,
    PenstockError,
    QuotaExceeded,
    RateLimited,
    StoreUnavailable,
    Unauthorized,
)

_SECURITY: list[dict[str, list[str]]] = [{"apiKey": []}, {"bearer": []}]
_GUARDED: tuple[type[PenstockError], ...] = (
    MalformedRequest, Unauthorized, Forbidden, InvalidRequest, RateLimited, QuotaExceeded, Internal, StoreUnavailable,
)  # fmt: skip
_OPEN: tuple[type[PenstockError], ...] = (MalformedRequest, InvalidRequest, Internal)
"""Every route refuses a request without a valid Host, and a query parameter that it does not know."""

_IDS = {"task_id": ("task_id", ("SubmittedView", "TaskView")), "prediction_id": ("id", ("PredictionView",))}
"""Path parameter -> the member of an answer that has its value, and the answers with that member."""

_NOT_NULL = "^(?![Nn][Uu][Ll][Ll]$)"
"""`query.check_query` refuses the word null as a value."""

_TENANT = {
    "name": TENANT_PARAMETER,
    "in": "query",
    "required": False,
    "description": "another tenant than that of the key; takes the scope `operate` as well",
    "schema": {"type": "string", "pattern": f"^{NAME.pattern}$"},
    "example": "acme",
}

_ALL_TENANTS = _TENANT | {
    "description": "another tenant than that of the key, or `*` for all; takes the scope `operate` as well",
    "schema": {"type": "string", "pattern": rf"^({NAME.pattern}|\*)$"},
}

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
"""How OpenAPI says "any parameter whose name begins so": an exploded object becomes one parameter for each member."""


def declared_by(app: Litestar) -> dict[str, tuple[Contents, Mapping[str, Any]]]:
    """Return the contents that the handlers of `app` declare, and their `opt`, by operation id."""
    handlers = [handler for route in app.routes if isinstance(route, HTTPRoute) for handler in route.route_handlers]
    return {_id_of(handler): (described(handler.opt), handler.opt) for handler in handlers}


def _id_of(handler: HTTPRouteHandler) -> str:
    return str(handler.operation_id)


_ANSWERS: Schema = {name: {"example": example} for name, example in answers.BY_TYPE.items()}


def complete(operation: Schema, path: str, contents: Contents, opt: Mapping[str, Any], models: Sequence[Model]) -> None:
    """Complete an operation of Litestar's document in place."""
    is_guarded = "/v1/" in path and "security" not in operation
    operation["responses"] = _responses(operation["responses"], _GUARDED if is_guarded else _OPEN)
    for parameter in operation.get("parameters", ()):
        _complete_parameter(parameter)
    # An empty list says that no key is needed; a missing one would say nothing.
    operation.setdefault("security", _SECURITY if is_guarded else [])
    if takes_tenant(opt):
        operation.setdefault("parameters", []).append(dict(_ALL_TENANTS if takes_all_tenants(opt) else _TENANT))
    if (scope := scope_of(opt)) is not None:
        operation["description"] = f"{operation['description']} Needs the scope `{scope}`."
        operation["x-scope"] = scope
    name = operation["operationId"]
    if contents.body is not None:
        bodies = requests.by_type(models)
        operation["requestBody"] = {"required": True, "content": _content(name, contents.body, bodies)}
    for status, content in contents.answers.items():
        operation["responses"][str(status)]["content"] = _content(name, content, _ANSWERS)


def open_to_tokens(app: Litestar, operations: Sequence[Schema]) -> None:
    """Complete the operations that a task token opens, which their handlers say by an option, in place."""
    handlers = [handler for route in app.routes if isinstance(route, HTTPRoute) for handler in route.route_handlers]
    by_token = {_id_of(handler) for handler in handlers if BY_TOKEN.items() <= handler.opt.items()}
    for operation in operations:
        if operation["operationId"] in by_token:
            operation["security"] = [*operation["security"], {"taskToken": []}]


def problem_examples(operations: Sequence[Schema]) -> Schema:
    """Return an example of every problem that one of these operations answers; others appear only in failed tasks."""
    refusals = [r for o in operations for status, r in o["responses"].items() if status >= "400"]
    codes = {code for refusal in refusals for code in refusal["description"].split(", ")}
    examples = answers.problems_by_code().items()
    return {code: {"summary": problem["title"], "value": problem} for code, problem in examples if code in codes}


def link(operations: Sequence[Schema]) -> Schema:
    """Link every answer about one task to the operations on that task; return the links by name."""
    links = {
        operation["operationId"]: {
            "operationId": operation["operationId"],
            "parameters": {parameter["name"]: f"$response.body#/{_IDS[parameter['name']][0]}"},
        }
        for operation in operations
        for parameter in operation.get("parameters", ())
        if parameter["name"] in _IDS
    }
    for response in (response for operation in operations for response in operation["responses"].values()):
        shown = _shown(response.get("content", {}).get("application/json", {}))
        ids = [parameter for parameter, (_, views) in _IDS.items() if shown in views]
        names = [name for name, target in links.items() if ids and ids[0] in target["parameters"]]
        if names:
            response["links"] = {name: {"$ref": f"#/components/links/{name}"} for name in names}
    return links


def _shown(content: Schema) -> str:
    """The name of the component that the content refers to, or nothing."""
    return str(content.get("schema", {}).get("$ref", "")).rpartition("/")[2]


def _responses(litestars: Schema, errors: Sequence[type[PenstockError]]) -> Schema:
    """The answers that Litestar has from the handler, with these errors and an example in each."""
    responses = {s: r for s, r in litestars.items() if s < "400" or MEDIA_TYPE in r.get("content", {})}
    for error in errors:
        _add_problem(responses, error)
    for response in responses.values():
        _add_examples(response)
    return dict(sorted(responses.items()))


def _add_problem(responses: Schema, error: type[PenstockError]) -> None:
    content = {MEDIA_TYPE: {"schema": component("Problem")}}
    response = responses.setdefault(str(error.status), {"description": "", "content": content})
    known = [code for code in response["description"].split(", ") if code]
    response["description"] = ", ".join(dict.fromkeys([*known, error.code]))


def _add_examples(response: Schema) -> None:
    """An answer has the example of its schema, a refusal those of the codes in its description."""
    for media_type, content in response.get("content", {}).items():
        if media_type == MEDIA_TYPE:
            codes = response["description"].split(", ")
            content["examples"] = {code: {"$ref": f"#/components/examples/{code}"} for code in codes}
        elif (name := _shown(content)) in answers.BY_TYPE:
            content["example"] = answers.BY_TYPE[name]


def _content(operation: str, content: Content, bodies: Schema) -> Schema:
    """The declared content as OpenAPI writes it: for each media type a schema, and an example if there is one."""
    written: Schema = {}
    for media_type, kind in content.items():
        if isinstance(kind, type):
            written[media_type] = {"schema": component(kind.__name__)} | bodies[kind.__name__]
        else:
            texts = answers.TEXTS.get((operation, media_type))
            written[media_type] = {"schema": kind} | ({} if texts is None else {"example": texts})
    return written


def _complete_parameter(parameter: Schema) -> None:
    name, schema = parameter["name"], _present(parameter["schema"])
    if parameter["in"] == "query" and schema == {"type": "string"}:
        schema["pattern"] = _NOT_NULL
    parameter["schema"] = schema
    if name == METADATA:
        parameter |= _ANY_METADATA
    if name in parameters.EXAMPLES:
        parameter["example"] = parameters.EXAMPLES[name]


def _present(schema: Schema) -> dict[str, Any]:
    """The schema of a parameter that is there: never null, and with bounds of integers that are integers."""
    around = {name: value for name, value in schema.items() if name not in ("oneOf", "description")}
    present = [one for one in schema.get("oneOf", [{}]) if one != {"type": "null"}]
    bounds = (present[0] | around).items()
    return {n: int(v) if isinstance(v, float) and v.is_integer() else v for n, v in bounds}
