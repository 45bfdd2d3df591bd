"""Answers of the console: pages, with the headers that keep them to themselves, and errors as pages."""

import re
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import htpy as h
from litestar import Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import ExceptionHandlersMap
from msgspec import convert

from penstock.api.console.page.frame import document
from penstock.api.console.page.panels import heading, notice
from penstock.api.console.page.words import copyable, prose, sentence
from penstock.api.console.sessions import SAFE
from penstock.api.console.viewer import PLACES, Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.problems import HANDLERS, Problem
from penstock.errors import PenstockError, Unauthorized
from penstock.settings import StorageSettings

LOGIN = "/console/login"
AWS = "https://*.amazonaws.com"
"""Where the links of a bucket lead that names no endpoint."""
_LOCAL_PATH = re.compile(
    r"/console(?!/(?:login|logout|v1|assets)\b)(?![^?]*(?:\.|%2e){2})"
    r"(/[A-Za-z0-9._~/@%-]*)?(\?[A-Za-z0-9._~/@%&=+:,*-]*)?",
    re.IGNORECASE,
)
"""A page of the console, and not a file of it, its API, or what is above it."""


def page(
    request: ApiRequest,
    title: str,
    *content: h.Node,
    screen: str = "",
    status: int = 200,
    headers: dict[str, str] | None = None,
    scripts: Sequence[str] = (),
    styles: Sequence[str] = (),
) -> Response[str]:
    """Return a page of the console; `screen` is the name of the place in the navigation that it belongs to, and
    `scripts` and `styles` are the files of the bundle that it needs beside those of every page."""
    viewer = viewer_of(request)
    text = str(document(viewer, title, *content, places=PLACES, screen=screen, scripts=scripts, styles=styles))
    policy = policy_of(request.app.state.services.settings.storage)
    own = {"Content-Security-Policy": policy, "X-Frame-Options": "DENY", "Vary": "Cookie"}
    return Response(text, media_type="text/html", status_code=status, headers=own | (headers or {}))


def policy_of(storage: StorageSettings) -> str:
    """Return the Content-Security-Policy of a page: no script and no style inside of it, no frame around it;
    results may come from where they are stored."""
    files = f"'self' blob: data: {_origin_of(storage)}".rstrip()
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
        f"img-src {files}; media-src {files}; connect-src 'self' {_origin_of(storage)}".rstrip()
        + "; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )


def _origin_of(storage: StorageSettings) -> str:
    """Where the links of the storage lead; '' for a directory, whose files come from this server."""
    if storage.local:
        return ""
    endpoint = urlsplit(storage.s3_public_endpoint or storage.s3_endpoint)
    return f"{endpoint.scheme}://{endpoint.netloc}" if endpoint.netloc else AWS


def next_page(wanted: str) -> str:
    """Return the page of the console that a login leads to: the wanted one, if it is one."""
    return wanted if _LOCAL_PATH.fullmatch(wanted) else "/console"


def is_for_part(request: ApiRequest) -> bool:
    """Return whether a script asks, for a part of a page."""
    return b"hx-request" in request.scope["state"]["headers"]


def error_link(viewer: Viewer, code: str) -> h.Element:
    """Return the code of an error, which leads to what it means and what to do."""
    return h.a(href=viewer.page(f"/errors/{code}").partition("?")[0])[h.code[code]]


def _ours(request: Any, error: PenstockError) -> Response[Any]:
    if isinstance(error, Unauthorized):
        return _to_login(request)
    return _shown(request, HANDLERS[PenstockError](request, error))


def _to_login(request: ApiRequest) -> Response[Any]:
    query = request.scope["query_string"].decode("latin-1")
    wanted = request.scope["path"] + (f"?{query}" if query else "")
    if is_for_part(request) or request.method not in SAFE:
        return Response(b"", status_code=401, headers={"HX-Redirect": f"{viewer_of(request).prefix}{LOGIN}"})
    is_start = next_page(wanted) == "/console"
    headers = {"Location": LOGIN if is_start else f"{LOGIN}?next={_quoted(wanted)}"}
    return Response(b"", status_code=303, media_type="text/plain", headers=headers)


def _quoted(path: str) -> str:
    return path.replace("%", "%25").replace("&", "%26").replace("?", "%3F").replace("+", "%2B")


def _shown(request: ApiRequest, answer: Response[Any]) -> Response[Any]:
    """Show the problem that the API would answer as a page."""
    problem = answer.content if isinstance(answer.content, Problem) else convert(answer.content, Problem)
    viewer = viewer_of(request)
    content = [
        heading(problem.title),
        notice("bad", prose(sentence(problem.detail or problem.title)), "Code: ", error_link(viewer, problem.code)),
        h.p(".under")["Request ", copyable(problem.request_id), " is in the server's log under this id."],
        h.p[h.a(".button", href=viewer.page("/").partition("?")[0])["Overview"]],
    ]
    kept = {name: value for name, value in answer.headers.items() if name.lower() in ("retry-after", "allow")}
    return page(request, problem.title, *content, status=answer.status_code or 500, headers=kept)


def _any(request: Any, error: Exception) -> Response[Any]:
    kind = next(kind for kind in (ValidationException, HTTPException, Exception) if isinstance(error, kind))
    handler: Any = HANDLERS[kind]
    return _shown(request, handler(request, error))


AS_PAGES: ExceptionHandlersMap = {
    PenstockError: _ours,
    ValidationException: _any,
    HTTPException: _any,
    Exception: _any,
}
"""The handlers of errors in the console's pages: what a client of the API gets as a problem, shown to people."""
