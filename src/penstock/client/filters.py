"""The filter of `list` and of the methods that act on all tasks that match."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict


class Filter(TypedDict, total=False):
    """What a task has to have: one of these `status`, this model and so on; `metadata` are entries that it has among
    others. A moment without a zone is local time. What is None, but for an entry of `metadata`, leaves nothing out."""

    status: Sequence[str]
    model: str | None
    priority: str | None
    batch_id: str | None
    key: str | None
    error_code: str | None
    id_prefix: str | None
    metadata: Mapping[str, str]
    created_after: datetime | None
    created_before: datetime | None


def query_of(which: Filter) -> dict[str, Any]:
    """The same as parameters of a request. Whatever is no filter raises TypeError: were it left out, an act would hit
    what it does not name."""
    if unknown := which.keys() - Filter.__annotations__.keys():
        raise TypeError(f"{', '.join(sorted(unknown))}: no such filter; known are {', '.join(Filter.__annotations__)}")
    said: dict[str, Any] = dict(which)
    status, metadata = said.pop("status", None), said.pop("metadata", None) or {}
    if empty := [name for name, value in metadata.items() if value is None]:
        raise TypeError(f"metadata {empty[0]!r} is None; leave the entry out, or say what it has to be")
    return {
        "status": [status] if isinstance(status, str) else list(status or ()) or None,
        **{name: _written(value) for name, value in said.items()},
        **{f"metadata.{name}": value for name, value in metadata.items()},
    }


def _written(value: Any) -> Any:
    """Returns the value as the API takes it. Only the API checks it."""
    return value.astimezone().isoformat() if isinstance(value, datetime) else value
