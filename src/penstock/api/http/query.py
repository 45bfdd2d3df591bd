"""The check of a query: parameters that the route does not declare, too many values, and null are refused.

The known parameters are those that the handler and its dependencies declare, so no route can leave the check out. An
ignored parameter would be worse than a refused one: with a misspelt filter, an act would hit every task.
"""

from collections import Counter
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from litestar import Request
from litestar.di import Provide
from litestar.enums import ParamType
from litestar.handlers import BaseRouteHandler
from litestar.params import ParameterKwarg
from litestar.typing import FieldDefinition
from msgspec import Struct

from penstock.api.http.scopes import BY_TOKEN, TENANT_PARAMETER, in_tenant, takes_tenant
from penstock.errors import InvalidRequest

METADATA = "metadata."
"""A declared name that ends with a dot stands for every name that begins with it."""

TOKEN = "token"  # noqa: S105  its name
SHOWN = 100
"""Most characters of the client's own text that an answer repeats."""


class KnownParameters(Struct, frozen=True):
    """The query parameters of a route by name, each with whether it may come more than once."""

    repeatable: dict[str, bool]

    def declared(self, name: str) -> str | None:
        """Return the declared name that stands for this one, or None."""
        if name in self.repeatable:
            return name
        return next((known for known in self.repeatable if known.endswith(".") and name.startswith(known)), None)

    def described(self) -> str:
        """Return a text with all names, for people."""
        names = [_written(name) for name in sorted(self.repeatable)]
        return f"known here: {', '.join(names)}" if names else "this endpoint takes none"


async def check_query(request: Request[Any, Any, Any]) -> None:
    """Check the query before any handler runs, after the key was checked; `tenant` changes `request.auth`.

    Raises InvalidRequest, Forbidden.
    """
    if not request.scope["query_string"]:
        return
    known = known_to(request.route_handler)
    pairs = list(request.query_params.multi_items())
    for name, value in pairs:
        declared = known.declared(name)
        if declared is None:
            raise InvalidRequest(_unknown(name, known), param=name[:SHOWN])
        if value.lower() == "null" and declared != METADATA:  # Litestar would take it for a missing parameter
            raise InvalidRequest("leave the parameter out, or give it a value", param=name)
    opt = request.route_handler.opt
    if (tenant := request.query_params.get(TENANT_PARAMETER)) is not None and takes_tenant(opt):
        request.scope["auth"] = in_tenant(request.scope["auth"], tenant, opt)
    for name, times in Counter(name for name, _ in pairs).items():
        if times > 1 and not known.repeatable[known.declared(name) or name]:
            raise InvalidRequest("give this parameter only once", param=name[:SHOWN])


def known_to(handler: BaseRouteHandler) -> KnownParameters:
    """Return the query parameters that a handler and its dependencies declare."""
    declared = dict(_declared(handler.parsed_fn_signature.parameters, handler.resolve_dependencies()))
    # No parameters of the handlers: Litestar would look for them in every request, and `auth` has what they say.
    opened = {TOKEN: False} if BY_TOKEN.items() <= handler.opt.items() else {}
    return KnownParameters(declared | opened | ({TENANT_PARAMETER: False} if takes_tenant(handler.opt) else {}))


def _declared(parameters: dict[str, FieldDefinition], providers: dict[str, Provide]) -> Iterator[tuple[str, bool]]:
    for name, field in parameters.items():
        if name in providers:
            yield from _declared(providers[name].parsed_fn_signature.parameters, providers)
        elif (
            isinstance(field.kwarg_definition, ParameterKwarg) and field.kwarg_definition.param_type is ParamType.QUERY
        ):
            yield field.kwarg_definition.name or name, field.is_non_string_sequence


def _unknown(name: str, known: KnownParameters) -> str:
    close = get_close_matches(name[:SHOWN], known.repeatable, n=1)
    meant = f"; did you mean `{_written(close[0])}`?" if close else ""
    return f"there is no query parameter `{name[:SHOWN]}` here{meant} ({known.described()})"


def _written(declared: str) -> str:
    return f"{declared}<key>" if declared.endswith(".") else declared
