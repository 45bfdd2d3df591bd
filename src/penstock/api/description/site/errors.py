"""/errors: a page for each code that a refusal or a failed task can have."""

import json
from collections.abc import Iterator
from html import escape
from http import HTTPStatus
from typing import Any

from litestar import Response, Router, get
from litestar.params import FromPath

from penstock.api.console.advice import ADVICE
from penstock.api.description.examples.answers import problems_by_code
from penstock.api.description.site.frame import heading, listing, page, prefix_of, prose
from penstock.api.http.auth import ApiRequest
from penstock.errors import NotFound, PenstockError, codes

AGAIN = "The same request may succeed later. Where the answer has `Retry-After`, wait that many seconds first."
NOT_AGAIN = "The same request fails again: change what is wrong first."


@get("/", sync_to_thread=False)
def list_errors(request: ApiRequest) -> Response[Any]:
    """Serve the table of all codes."""
    return page("Errors · Penstock", "\n".join(_table(prefix_of(request))))


@get("/{code:str}", sync_to_thread=False)
def show_error(request: ApiRequest, code: FromPath[str]) -> Response[Any]:
    """Serve the page of one code. Raises NotFound."""
    error = codes().get(code)
    if error is None:
        raise NotFound("no error has this code; /errors lists all")
    return page(f"{code} · Penstock", "\n".join(_body(error, prefix_of(request))))


router = Router("/errors", route_handlers=[list_errors, show_error], include_in_schema=False)


def _table(prefix: str) -> Iterator[str]:
    yield heading("Errors")
    yield f"<p>{prose(_INTRODUCTION)}</p>"
    yield '<div class="wide"><table><thead><tr><th>code</th><th>status</th><th>again?</th><th></th></tr></thead><tbody>'
    for code, error in codes().items():
        link = f'<a href="{escape(prefix)}/errors/{code}"><code>{code}</code></a>'
        again = "yes" if error.retryable else "no"
        yield f"<tr><td>{link}</td><td>{error.status}</td><td>{again}</td><td>{escape(error.title)}</td></tr>"
    yield "</tbody></table></div>"


_INTRODUCTION = (
    "A request that is refused is answered with a problem (RFC 9457), whose `code` is one of these. A task that failed "
    "has the same code in its `error`."
)


def _body(error: type[PenstockError], prefix: str) -> Iterator[str]:
    yield f'<p><a href="{escape(prefix)}/errors">All errors</a></p>'
    yield heading(error.code, f"{error.status} {HTTPStatus(error.status).phrase}")
    yield f"<p>{prose(error.__doc__ or error.title)}</p>"
    if error.code in ADVICE:
        yield f"<h2>What to do</h2><p>{prose(ADVICE[error.code])}</p>"
    yield f"<h2>Try again?</h2><p>{prose(AGAIN if error.retryable else NOT_AGAIN)}</p>"
    yield "<h2>How it looks</h2>"
    yield listing(json.dumps(problems_by_code()[error.code], indent=2, ensure_ascii=False), "An example of the problem")
