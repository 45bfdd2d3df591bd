"""Who looks at a page, the screens that they may go to, and where links lead."""

from typing import Literal
from urllib.parse import urlencode

from msgspec import Struct

from penstock.api.console.sessions import session_of
from penstock.api.http.auth import ApiRequest
from penstock.core.access import Caller, Scope

Theme = Literal["auto", "light", "dark"]
THEME_COOKIE = "penstock_theme"

ROLES: tuple[tuple[Scope, str], ...] = (
    ("admin", "admin"),
    ("operate", "operator"),
    ("submit", "member"),
    ("read", "viewer"),
)
"""The first scope that a key has names its role."""


class Screen(Struct, frozen=True):
    """A screen in the navigation: its name and icon, its path, its words, the letter after `g`, and the scope without
    which it is not shown."""

    name: str
    path: str
    title: str
    letter: str
    scope: Scope = "read"


PLACES = (
    Screen("overview", "/", "Overview", "o"),
    Screen("tasks", "/tasks", "Tasks", "t"),
    Screen("batches", "/batches", "Batches", "b"),
    Screen("queues", "/queues", "Queues", "q"),
    Screen("workers", "/workers", "Workers", "w"),
    Screen("models", "/models", "Models", "m"),
    Screen("webhooks", "/webhooks", "Webhooks", "h", scope="operate"),
    Screen("try", "/try", "Try a model", "r", scope="submit"),
    Screen("usage", "/usage", "Usage", "u"),
    Screen("keys", "/keys", "Keys", "k", scope="admin"),
    Screen("audit", "/audit", "Audit", "a", scope="admin"),
)
"""In the order of the navigation. The name is that of an icon, too, and of `page(screen=...)`."""


class Viewer(Struct, frozen=True, kw_only=True):
    """The caller of a page (None before the login), the theme that their browser asked for, the path under which a
    proxy serves this server, and the token of acts."""

    caller: Caller | None
    theme: Theme
    prefix: str
    act_token: str

    def can(self, scope: Scope) -> bool:
        """Return whether the viewer's key has this scope."""
        return self.caller is not None and scope in self.caller.scopes

    @property
    def role(self) -> str:
        """What the viewer may do, in one word."""
        return next((role for scope, role in ROLES if self.can(scope)), "nobody")

    def page(self, path: str, **query: object) -> str:
        """Return the link to a page of the console, such as `/tasks`, in the tenant in which the viewer looks now."""
        return f"{self.prefix}/console{path}{_query(self._elsewhere | query)}"

    def own_page(self, path: str) -> str:
        """Return the link to a page in the viewer's own tenant."""
        return f"{self.prefix}/console{path}"

    def api(self, path: str, **query: object) -> str:
        """Return the link to a route of the API, such as `/tasks/tsk_1/cancel`, for acts and files of a page."""
        return f"{self.prefix}/console/v1{path}{_query(self._elsewhere | query)}"

    @property
    def _elsewhere(self) -> dict[str, object]:
        return {"tenant": self.caller.tenant} if self.caller and self.caller.home is not None else {}


def viewer_of(request: ApiRequest) -> Viewer:
    """Return who looks at the page of this request."""
    session = session_of(request)
    theme = request.cookies.get(THEME_COOKIE)
    return Viewer(
        caller=(request.scope.get("auth") or session.caller()) if session else None,
        theme="light" if theme == "light" else "dark" if theme == "dark" else "auto",
        prefix=request.base_url.path.rstrip("/"),
        act_token=session.act_token if session else "",
    )


def _query(values: dict[str, object]) -> str:
    pairs = {name: value for name, value in values.items() if value not in (None, "", ())}
    return f"?{urlencode(pairs, doseq=True)}" if pairs else ""
