"""Managed keys and the audit, as administrators send and read them."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from penstock.api.schemas.tasks import Moment, ResponseBody
from penstock.core.access import Scope
from penstock.intake.requests import RequestBody

LONGEST_S = 10 * 365 * 86_400
DEFAULT_LIFE_S = 90 * 86_400

NAME_PATTERN = r"^(?![Nn][Uu][Ll][Ll]$)[A-Za-z0-9][A-Za-z0-9._-]{0,63}(?!\n)$"
"""The name of a tenant or a caller. The word null is refused in every query, so that nobody could ask for it."""

KeyName = Annotated[str, Meta(pattern=NAME_PATTERN)]


class KeyRequest(RequestBody, frozen=True):
    """A key to make. Keys of one tenant with one name are one caller: they share its limits, so that a key can take the
    place of another. Without a name it is its own id."""

    tenant: KeyName
    scopes: Annotated[tuple[Scope, ...], Meta(min_length=1, max_length=4)] = ("read", "submit")
    name: KeyName | None = None
    expires_in_s: Annotated[int, Meta(ge=0, le=LONGEST_S, description="0: it works until it is revoked")] = (
        DEFAULT_LIFE_S
    )


class KeyView(ResponseBody, frozen=True):
    """A managed key, without its secret. `last_used_at` is exact to about a minute; `replaced_by` is the id of the key
    that a rotation has put in its place."""

    id: str
    tenant: str
    name: str
    scopes: tuple[Scope, ...]
    status: Literal["active", "expired", "revoked"]
    created_at: Moment
    created_by: str
    expires_at: Moment | None
    revoked_at: Moment | None
    last_used_at: Moment | None
    replaced_by: str | None


class NewKeyView(ResponseBody, frozen=True):
    """A key that was just made. `key` is its text, which is shown this once and stored nowhere. `replaced` is the key
    whose place it takes, and which works until its `expires_at`."""

    key: str
    record: KeyView
    replaced: KeyView | None


class KeyList(ResponseBody, frozen=True):
    """Keys, the newest first."""

    data: tuple[KeyView, ...]


class TokensRevokedView(ResponseBody, frozen=True):
    """All task tokens that this tenant was given so far work no longer."""

    tenant: str


class AuditView(ResponseBody, frozen=True):
    """One act: the caller `by` of that tenant did `act` on `subject`, from that address. `details` has more about it,
    such as the number of tasks."""

    id: str
    at: Moment
    by: str
    tenant: str
    act: str
    subject: str
    address: str
    request_id: str
    details: dict[str, Any]


class AuditPage(ResponseBody, frozen=True):
    """A page of the audit, newest first; `next_cursor` continues it."""

    data: tuple[AuditView, ...]
    has_more: bool
    next_cursor: str | None
