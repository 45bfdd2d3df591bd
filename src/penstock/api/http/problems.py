"""Errors as clients see them: application/problem+json (RFC 9457) with a `code` from the closed list of errors."""

import re
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from litestar.types import ExceptionHandlersMap
from litestar.typing import FieldDefinition
from loguru import logger
from msgspec import UNSET, Struct, UnsetType

from penstock.api.http.headers import allow_of, rate_headers
from penstock.core.quotas import QuotaName
from penstock.errors import (
    Internal,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    PenstockError,
    QuotaExceeded,
    UnsupportedMediaType,
)
from penstock.intake.parse import NEEDED, Finding, InvalidLines, with_known

MEDIA_TYPE = "application/problem+json"

AnyRequest = Request[Any, Any, Any]


class Problem(Struct, frozen=True, kw_only=True):
    """Why a request failed. `code` is stable, `detail` is for people, `param` names the member at fault, and `quota`
    the quota that is used up."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    param: str | None
    retryable: bool
    request_id: str
    errors: tuple[Finding, ...] | UnsetType = UNSET
    quota: QuotaName | UnsetType = UNSET


_MISSING = re.compile(r"^Missing required \w+ parameter '([^']+)'")


def documented(*errors: type[PenstockError]) -> dict[int, ResponseSpec]:
    """Return the OpenAPI responses of these errors, one for each status; its description lists the codes."""
    by_status: dict[int, list[str]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(error.code)
    return {
        status: ResponseSpec(Problem, media_type=MEDIA_TYPE, description=", ".join(names), generate_examples=False)
        for status, names in by_status.items()
    }


def type_of(code: str) -> str:
    """Return the `type` of the problems with this code."""
    return f"urn:penstock:error:{code}"


def help_of(code: str, base_url: str = "") -> str:
    """Return the `Link` of a refusal with this code: to the page that says what it means."""
    return f'<{base_url}/errors/{code}>; rel="help"'


def problem_of(error: PenstockError, request_id: str, findings: tuple[Finding, ...] = ()) -> Problem:
    """Return the document for an error; `findings` become its `errors`."""
    return Problem(
        type=type_of(error.code),
        title=error.title,
        status=error.status,
        detail=error.detail,
        code=error.code,
        param=error.param,
        retryable=error.retryable,
        request_id=request_id,
        errors=findings or UNSET,
        quota=getattr(error, "quota", UNSET),
    )


def _answer(request: AnyRequest, error: PenstockError, findings: tuple[Finding, ...] = ()) -> Response[Problem]:
    headers = (_policies(error) if isinstance(error, QuotaExceeded) else {}) | error.headers
    if error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    state = request.scope["state"]
    headers["Link"] = help_of(error.code, state["base_url"])
    state["error_code"] = error.code  # for the span of the request
    problem = problem_of(error, state["request_id"], findings)
    return Response(problem, status_code=error.status, media_type=MEDIA_TYPE, headers=headers)


_WINDOWS_S = {"submits_per_minute": 60, "device_seconds_per_day": 86_400}


def _policies(error: QuotaExceeded) -> dict[str, str]:
    window_s, reset_s = _WINDOWS_S.get(error.quota), error.retry_after_s or 1
    return rate_headers(error.quota, error.limit, left=0, reset_s=reset_s, window_s=window_s)


def _ours(request: AnyRequest, error: PenstockError) -> Response[Problem]:
    return _answer(request, error, error.findings if isinstance(error, InvalidLines) else ())


def _parameters(request: AnyRequest, error: ValidationException) -> Response[Problem]:
    """The answer for parameters that Litestar refused, with all that are wrong, or with the first that is missing."""
    # Litestar lists wrong parameters in `extra`; a missing one is named in its text only.
    found = error.extra if isinstance(error.extra, list) else []
    named = [(str(f.get("key", "")), str(f.get("message", ""))) for f in found]
    findings = tuple(_finding(request, name, text) for name, text in named)
    findings = findings or tuple(_finding(request, name, NEEDED) for name in _MISSING.findall(error.detail))
    first = findings[0] if findings else Finding(param="", detail="a parameter is wrong")
    all_ = findings if len(findings) > 1 else ()  # a single finding would only repeat the problem itself
    return _answer(request, InvalidRequest(first.detail, param=first.param or None), all_)


def _finding(request: AnyRequest, name: str, text: str) -> Finding:
    """What is wrong with a parameter, under the name that clients use."""
    field = _field_of(request, name)
    if field is None:
        return Finding(param=name, detail=text)
    return Finding(param=getattr(field.kwarg_definition, "name", None) or name, detail=with_known(text, field.raw))


def _field_of(request: AnyRequest, name: str) -> FieldDefinition | None:
    """The declaration of a parameter in the handler or in one of its dependencies."""
    handler = request.route_handler
    provided = [dependency.parsed_fn_signature for dependency in handler.resolve_dependencies().values()]
    for signature in (handler.parsed_fn_signature, *provided):
        for field in signature.parameters.values():
            if name in (field.name, getattr(field.kwarg_definition, "name", None)):
                return field
    return None


_OF_STATUS: dict[int, type[PenstockError]] = {
    cls.status: cls for cls in (MalformedRequest, NotFound, MethodNotAllowed, PayloadTooLarge, UnsupportedMediaType)
}


def _framework(request: AnyRequest, error: HTTPException) -> Response[Problem]:
    """The answer for a refusal of Litestar's own. Its text is left out, because it contains the URL."""
    cls = _OF_STATUS.get(error.status_code)
    if cls is None:
        return _unexpected(request, error)
    allow = next((value for name, value in (error.headers or {}).items() if name.lower() == "allow"), None)
    allowed = {} if allow is None else {"Allow": allow_of(allow.split(", "))}
    return _answer(request, cls(headers=allowed))


def _unexpected(request: AnyRequest, error: Exception) -> Response[Problem]:
    logger.opt(exception=error).error("request failed")
    return _answer(request, Internal("the server failed; its log has the error under this request_id"))


HANDLERS: ExceptionHandlersMap = {
    PenstockError: _ours,
    ValidationException: _parameters,
    HTTPException: _framework,
    Exception: _unexpected,
}
