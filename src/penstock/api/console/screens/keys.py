"""The API keys: who has which, and making, replacing and revoking them."""

from collections.abc import Iterator, Sequence

import htpy as h
from litestar import Response, get

from penstock.api.console.answers import page
from penstock.api.console.page.acts import Act, act_button, act_form
from penstock.api.console.page.fields import chips, choice, text_field
from penstock.api.console.page.panels import heading, live, panel
from penstock.api.console.page.tables import TableRow, table
from penstock.api.console.page.words import badge, copy_button, when
from penstock.api.console.reads import accounts
from penstock.api.console.viewer import Viewer, viewer_of
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import ADMIN
from penstock.api.schemas.access_keys import NAME_PATTERN, KeyView
from penstock.api.services import ServicesDep
from penstock.core.access import ALL_SCOPES, USUAL_SCOPES

COLUMNS = ("Key", "Tenant", "Name", "Scopes", "Status", "Last used", "Ends", "")
DAY_S = 86_400
LIVES = ((7, "a week"), (30, "a month"), (90, "90 days"), (365, "a year"), (0, "until it is revoked"))
NAME = NAME_PATTERN.removeprefix("^(?![Nn][Uu][Ll][Ll]$)").removesuffix(r"(?!\n)$").replace("-]", r"\-]")
"""As browsers read it, to whom a dash in brackets is no letter; what does not fit is ignored by them without a word."""


@get("/keys", opt=ADMIN)
async def show_keys(request: ApiRequest, services: ServicesDep) -> Response[str]:
    """Show the managed keys, the newest first, and the form that makes one."""
    viewer = viewer_of(request)
    keys = (await accounts.managed_keys(services, tenant=None)).data
    empty = "No key was made here. Keys of the settings (API_KEYS) work beside these, and are not listed."
    rows = table(COLUMNS, [_row(key, viewer) for key in keys], caption="Keys", empty=empty)
    under = "A key works in one tenant. Its secret is shown once, when it is made."
    return page(
        request,
        "Keys",
        heading("Keys", under=under),
        _new_secret(),
        live("keys", viewer.page("/keys"), rows, every_s=0),
        h.div(".columns")[panel("Make a key", _form(viewer)), panel("Task tokens", *_tokens(viewer, keys))],
        screen="keys",
    )


def _row(key: KeyView, viewer: Viewer) -> TableRow:
    ends = key.revoked_at or key.expires_at
    return TableRow(
        [
            h.code[key.id],
            key.tenant,
            key.name if key.name != key.id else "–",
            " ".join(key.scopes),
            badge(key.status, {"active": "good", "revoked": "bad"}.get(key.status, "warn")),
            when(key.last_used_at, absent="never"),
            when(ends, absent="when it is revoked"),
            h.div(".acts")[_acts(key, viewer)],
        ],
        id=key.id,
    )


def _acts(key: KeyView, viewer: Viewer) -> Iterator[h.Node]:
    if key.status != "active":
        return
    link = viewer.api(f"/keys/{key.id}").partition("?")[0]
    if key.replaced_by is None:
        rotate = Act(
            link=f"{link}/rotate",
            scope="admin",
            confirm=f"Replace the key {key.id}?",
            confirm_text="Another key that may do as much takes its place; this one works for another day.",
            done="Replaced by {record.id}",
        )
        yield act_button(viewer, "Replace", rotate, look="quiet")
    revoke = Act(
        link=link,
        method="DELETE",
        scope="admin",
        confirm=f"Revoke the key {key.id}?",
        confirm_text=f"Who uses it as {key.name} in {key.tenant} is refused within five seconds.",
        done="Revoked",
    )
    yield act_button(viewer, "Revoke", revoke, look="danger")


def _new_secret() -> h.Element:
    """Return the box in which `secrets.js` shows the text of a key that was just made."""
    return h.div({"data-secret": True, "hidden": True}, class_="notice tone-good")[
        h.div[
            h.strong["Keep this key now: it is shown this once and stored nowhere."],
            h.div(".copyable")[h.code(data_secret_text=True), copy_button("", "Copy the key")],
        ]
    ]


def _form(viewer: Viewer) -> h.Node:
    make = Act(link=viewer.api("/keys").partition("?")[0], scope="admin", done="Made {record.id}")
    lives = [(str(days * DAY_S), words) for days, words in LIVES]
    return act_form(
        viewer,
        make,
        text_field("Tenant", "tenant", "default", required=True, pattern=NAME),
        text_field("Name", "name", hint="of whoever uses it; keys of one name share their limits", pattern=NAME),
        chips("Scopes", "scopes", sorted(ALL_SCOPES), sorted(USUAL_SCOPES), data_type="words"),
        choice("Works for", "expires_in_s", lives, str(90 * DAY_S), data_type="number"),
        submit="Make a key",
    )


def _tokens(viewer: Viewer, keys: Sequence[KeyView]) -> Iterator[h.Node]:
    yield h.p["A link with a token shows one task to whoever has it, without a key. Revoke those of a tenant:"]
    own = viewer.caller.home or viewer.caller.tenant if viewer.caller else ""
    tenants = sorted({own, *(key.tenant for key in keys)})
    yield h.div(".acts")[[_revoke_tokens(viewer, tenant) for tenant in tenants]]


def _revoke_tokens(viewer: Viewer, tenant: str) -> h.Node:
    revoke = Act(
        link=viewer.api("/tokens/revoke", tenant=tenant),
        scope="admin",
        confirm=f"Revoke all task tokens of {tenant}?",
        confirm_text="Pages that show its tasks by a token stop within five seconds; later submits give new ones.",
        done="The tokens of {tenant} open nothing any more",
    )
    return act_button(viewer, tenant, revoke, look="danger")
