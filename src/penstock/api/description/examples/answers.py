"""The example of each answer and of each problem."""

from typing import Any

import msgspec

from penstock.api.description.examples import batches, keys, models, operators, replicate, tasks, uploads, usage
from penstock.api.http.contents import JSON
from penstock.api.http.problems import Problem, type_of
from penstock.api.schemas.batches import JSONL
from penstock.errors import codes

BY_TYPE: dict[str, Any] = {
    type(answer).__name__: msgspec.to_builtins(answer)
    for room in (tasks, batches, uploads, models, operators, usage, keys, replicate)
    for answer in room.ANSWERS
}
"""Example answers by the name of the answer's schema."""

TEXTS: dict[tuple[str, str], Any] = {
    ("getTaskResult", JSON): tasks.SCORE,
    ("watchTask", "text/event-stream"): tasks.EVENTS,
    ("metrics", "text/plain"): operators.METRICS,
    **{("submitBatch", media_type): batches.LINES for media_type in JSONL},
    **{("getBatchResults", media_type): batches.MANIFEST for media_type in JSONL},
}
"""Contents that no struct describes, by operation and media type."""


def problems_by_code() -> dict[str, Any]:
    """Return each problem as it is answered, with its title in place of the detail of one occurrence."""
    return {
        code: msgspec.to_builtins(
            Problem(
                type=type_of(code),
                title=error.title,
                status=error.status,
                detail=error.title,
                code=code,
                param=None,
                retryable=error.retryable,
                request_id="req_7f3c1a9e5b2d4f6081a3c5e7",
            )
        )
        for code, error in sorted(codes().items())
    }
