"""What a key needs for each route: the scopes that handlers declare in their `opt`, and their check.

A handler under /v1 or /replicate/v1 has one of `READ`, `SUBMIT`, `OPERATE` and `ADMIN` in its `opt`, or is let in by
its URL. The server does not start with one that has neither.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from litestar.handlers import HTTPRouteHandler
from msgspec.structs import replace

from penstock.core.access import NAME, Caller, Scope, text_of
from penstock.errors import Forbidden, InvalidRequest

SCOPE = "scope"
"""Option of a handler: the scope that it needs. Litestar's own handlers of OPTIONS have none."""

READ: dict[str, Any] = {SCOPE: "read"}
SUBMIT: dict[str, Any] = {SCOPE: "submit"}
OPERATE: dict[str, Any] = {SCOPE: "operate"}
ADMIN: dict[str, Any] = {SCOPE: "admin"}

BY_URL = {"let_in_by": "url"}
"""Option of a handler that needs no key, because its URL has a token: whoever has the URL may use it."""

BY_TOKEN = {"task_token": True}
"""Option of a handler that a task token opens too, as `?token=` of a request without a key."""

OF_ANY_TENANT = {"of_any_tenant": True}
"""Option of a handler that takes the query parameter `tenant`: an operator acts there as one of that tenant does."""

ALL_TENANTS = "*"
"""The tenant of an operator who asks for all of them; no tenant has this name."""

OF_ALL_TENANTS = OF_ANY_TENANT | {"of_all_tenants": True}
"""The same of a handler that also takes ALL_TENANTS."""

TENANT_PARAMETER = "tenant"


def takes_tenant(opt: Mapping[str, Any]) -> bool:
    """Return whether the handler with this `opt` takes the query parameter `tenant`."""
    return OF_ANY_TENANT.items() <= opt.items()


def takes_all_tenants(opt: Mapping[str, Any]) -> bool:
    """Return whether the handler with this `opt` takes ALL_TENANTS as its `tenant`."""
    return OF_ALL_TENANTS.items() <= opt.items()


def in_tenant(caller: Caller, name: str, opt: Mapping[str, Any]) -> Caller:
    """Return the caller as it acts in the tenant of this name, or in all where the handler with this `opt` takes that.
    Raises Forbidden, InvalidRequest."""
    if name == caller.tenant:
        return caller
    if "operate" not in caller.scopes:
        raise refusal_of(caller, "operate")
    if not NAME.fullmatch(name) and not (name == ALL_TENANTS and takes_all_tenants(opt)):
        raise InvalidRequest("this is not the name of a tenant", param=TENANT_PARAMETER)
    return replace(caller, tenant=name, home=caller.tenant)


def is_let_in_by_url(opt: Mapping[str, Any]) -> bool:
    """Return whether the handler with this `opt` needs no key."""
    return BY_URL.items() <= opt.items()


def scope_of(opt: Mapping[str, Any]) -> Scope | None:
    """Return the scope that a handler declares in its `opt`, or None."""
    scope: Scope | None = opt.get(SCOPE)
    return scope


def refusal_of(caller: Caller, scope: Scope) -> Forbidden:
    """Return the error for a caller without this scope."""
    return Forbidden(
        f"this needs an API key with the scope `{scope}`; yours has {text_of(caller.scopes) or 'none'}",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{scope}"'},
    )


def check_declared(handlers: Iterable[HTTPRouteHandler]) -> None:
    """Raise TypeError when one of these handlers declares no scope, so that no route is open by oversight."""
    for handler in handlers:
        if scope_of(handler.opt) is None and not is_let_in_by_url(handler.opt):
            raise TypeError(f"the handler {handler.operation_id} declares no scope in its opt")
