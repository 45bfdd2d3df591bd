"""Which tasks: one filter for the list and for the acts on all that match, as the API has it."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, TypedDict


class Filter(TypedDict, total=False):
    """What a task has to have: one of these `status`, this model and so on; `metadata` are entries that it has among
    others. A moment without a zone is local time."""

    status: Sequence[str]
    model: str | None
    priority: str | None
    batch_id: str | None
    metadata: Mapping[str, str]
    created_after: datetime | None
    created_before: datetime | None


def query_of(which: Filter) -> dict[str, Any]:
    """The same as parameters of a request."""
    moments = {name: which.get(name) for name in ("created_after", "created_before")}
    return {
        "status": list(which.get("status", ())) or None,
        **{name: which.get(name) for name in ("model", "priority", "batch_id")},
        **{f"metadata.{name}": value for name, value in which.get("metadata", {}).items()},
        **{name: moment.astimezone().isoformat() for name, moment in moments.items() if isinstance(moment, datetime)},
    }
