"""The spans of calls to the storage, inside of those of requests and tasks. Our own looks at the storage have none."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import wraps
from typing import Any, TypeVar

from penstock.lazy_import import lazy_import
from penstock.telemetry import traces

spans = lazy_import("penstock.telemetry.spans")

C = TypeVar("C", bound=type)

Described = Mapping[str, Any]


def _key(key: str = "", *_: Any) -> Described:
    return {"penstock.storage.key": key}


def _keys(*keys: str) -> Described:
    return {"penstock.storage.keys": len(keys)}


def _object(key: str = "", data: bytes = b"", *_: Any) -> Described:
    return {"penstock.storage.key": key, "penstock.storage.bytes": len(data)}


def _objects(items: Sequence[Any] = ()) -> Described:
    return {"penstock.storage.keys": len(items), "penstock.storage.bytes": sum(len(item.data) for item in items)}


def _part(part: bytes = b"") -> Described:
    return {"penstock.storage.bytes": len(part)}


CALLS: dict[str, Callable[..., Described]] = {
    "put": _object,
    "put_all": _objects,
    "get": _key,
    "stream": _key,
    "size": _key,
    "delete": _keys,
    "clear": _keys,
    "write": _part,
    "publish": _part,
    "discard": _keys,
}
"""The methods of a storage, and of what stores an object in parts, that have a span, and what is said of each call.
Keys are made of ids of ours."""


def traced_calls(backend: C) -> C:
    """Give each call of `CALLS` to the objects of this class a span. Without spans the class stays as it is."""
    if traces.IS_ON:
        for name, describe in CALLS.items():
            if name in vars(backend):
                setattr(backend, name, _traced(name, vars(backend)[name], describe))
    return backend


def _traced(
    name: str, call: Callable[..., Awaitable[Any]], describe: Callable[..., Described]
) -> Callable[..., Awaitable[Any]]:
    @wraps(call)
    async def call_in_span(backend: Any, *given: Any, **named: Any) -> Any:
        if not spans.current().is_recorded:
            return await call(backend, *given, **named)
        with spans.span(f"storage {name}", kind="client", attributes=describe(*given)):
            return await call(backend, *given, **named)

    return call_in_span
