"""The login: an API key is changed for a session, and logging out ends it."""

from typing import Annotated, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import htpy as h
from litestar import Response, get, post
from litestar.params import FromQuery, QueryParameter

from penstock.api.console.answers import next_page, page
from penstock.api.console.page.fields import text_field
from penstock.api.console.page.panels import notice
from penstock.api.console.sessions import find_session, log_in, log_out
from penstock.api.console.viewer import viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import BY_URL, READ
from penstock.api.services import ServicesDep
from penstock.errors import Forbidden, PenstockError

MOST_BYTES = 4096
"""Of a login's form: a key and a path."""
SAME = (b"same-origin", b"none")
WITH_ORIGIN = {"Referrer-Policy": "same-origin"}
"""Lets the browser say of which origin the form is, which is `null` where a page has no referrer."""


@get("/login", opt=BY_URL)
async def show_login(
    request: ApiRequest, wanted: Annotated[str, QueryParameter(name="next")] = "", again: FromQuery[bool] = False
) -> Response[Any]:
    """Ask for an API key; lead on whoever is logged in.

    A link on another site brings no cookie of ours, which are strict. The page that it gets goes on to this address
    once more, and then the link is our own. Over plain HTTP browsers do not say where a link was.
    """
    if not again and request.scope["state"]["headers"].get(b"sec-fetch-site") not in SAME:
        link = viewer_of(request).own_page(f"/login?{urlencode({'next': next_page(wanted), 'again': 'true'})}")
        return page(request, "One moment", headers={"Refresh": f"0; url={link}"})
    if await find_session(request.scope):
        return Response(b"", status_code=303, media_type="text/plain", headers={"Location": next_page(wanted)})
    return _form(request, next_page(wanted))


@post("/login", opt=BY_URL, request_max_body_size=MOST_BYTES, status_code=303)
async def try_login(request: ApiRequest, services: ServicesDep) -> Response[Any]:
    """Open a session and go to the wanted page; ask again where the key is wrong, with the API's status."""
    if not _is_own_form(request):
        raise Forbidden("log in on the page of this server")
    given = parse_qs((await request.body()).decode("latin-1"))
    wanted = next_page(given.get("next", [""])[0])
    secret = given.get("key", [""])[0].strip()
    try:
        cookie = await log_in(secret.encode(), request, services)
    except PenstockError as error:
        return _form(request, wanted, error)
    return Response(b"", status_code=303, media_type="text/plain", headers={"Location": wanted}, cookies=[cookie])


@post("/logout", opt=READ, status_code=200)
async def leave(request: ApiRequest, services: ServicesDep) -> Response[dict[str, bool]]:
    """End the session."""
    return Response({"logged_out": True}, cookies=[await log_out(request, services)])


def _is_own_form(request: ApiRequest) -> bool:
    """Whether the form was on a page of this server, as far as the browser says: over plain HTTP it names the origin of
    the page, and no relation; what is no browser says nothing."""
    headers = request.scope["state"]["headers"]
    if site := headers.get(b"sec-fetch-site"):
        return site in SAME
    origin = headers.get(b"origin")
    own = (request.base_url.netloc, headers.get(b"host", b"").decode("latin-1"))
    return origin is None or urlsplit(origin.decode("latin-1")).netloc in own


def _form(request: ApiRequest, wanted: str, error: PenstockError | None = None) -> Response[str]:
    return page(
        request,
        "Log in",
        h.div(".login")[
            h.h1["Penstock console"],
            notice("bad", error.detail) if error else None,
            h.form(method="post", action=viewer_of(request).page("/login"))[
                h.input(type="hidden", name="next", value=wanted),
                # For managers of passwords, which keep one by the name of its user.
                h.input(type="text", name="username", value="penstock", autocomplete="username", hidden=True),
                text_field(
                    "API key",
                    "key",
                    type="password",
                    autocomplete="current-password",
                    required=True,
                    autofocus=True,
                    hint="You can do here what this key may do. It is kept in no cookie, and no page shows it.",
                ),
                h.button(type="submit", class_="button primary")["Log in"],
            ],
            h.p(".under")[
                "The server's first key is printed by ",
                h.code["penstock up"],
                "; ",
                h.code["penstock keys new"],
                " makes others.",
            ],
        ],
        status=error.status if error else 200,
        headers=WITH_ORIGIN | _retry_after(error),
    )


def _retry_after(error: PenstockError | None) -> dict[str, str]:
    return {"Retry-After": str(error.retry_after_s)} if error and error.retry_after_s is not None else {}
