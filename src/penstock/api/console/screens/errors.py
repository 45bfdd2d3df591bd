"""What an error means and what to do about it, one page for each code."""

import htpy as h
from litestar import Response, get
from litestar.params import FromPath

from penstock.api.console.advice import ADVICE
from penstock.api.console.answers import page
from penstock.api.console.page.panels import heading, panel
from penstock.api.console.page.tables import facts
from penstock.api.console.page.words import prose
from penstock.api.console.viewer import viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import BY_URL, READ
from penstock.errors import NotFound, codes


@get("/errors/{code:str}", opt=READ, sync_to_thread=False)
def show_error(request: ApiRequest, code: FromPath[str]) -> Response[str]:
    """Show a code of the closed list of errors. Raises NotFound."""
    error = codes().get(code)
    if error is None:
        raise NotFound("there is no error with this code")
    viewer = viewer_of(request)
    meaning = " ".join((error.__doc__ or "").split())
    can_read_tasks = viewer.can("read")
    return page(
        request,
        error.title,
        heading(error.title, under=h.code[code]),
        panel(
            "",
            facts(
                [
                    ("It means", prose(meaning)),
                    ("What to do", prose(ADVICE.get(code, "")) if code in ADVICE else None),
                    ("A retry", "may succeed" if error.retryable else "ends the same way until something is changed"),
                    ("HTTP status", str(error.status)),
                ]
            ),
            can_read_tasks
            and h.p[h.a(".button", href=viewer.page("/tasks", error_code=code))["Tasks that ended with it"]],
        ),
    )


@get("/{rest:path}", opt=BY_URL, sync_to_thread=False)
def nothing_here(rest: FromPath[str]) -> None:  # noqa: ARG001  it is every path that no screen has
    """Answer for a path that no screen has. Raises NotFound."""
    raise NotFound("the console has no such page")
