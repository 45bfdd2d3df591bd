"""Values that Schemathesis cannot make up from the document alone; it loads this file (SCHEMATHESIS_HOOKS)."""

import base64
import io
import os
import zlib
from typing import Any

import requests
import schemathesis
from hypothesis import strategies
from PIL import Image

NOBODY = "https://nobody.invalid/there"
LONGEST_WAIT_S = 1
"""The longest wait of a made-up request, since the awaited task may never end."""


def _data_uri(format: str, width: int, height: int) -> str:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, format)
    return f"data:image/{format};base64,{base64.b64encode(out.getvalue()).decode()}"


_sides = strategies.integers(1, 48)
_formats = strategies.sampled_from(("png", "jpeg", "webp"))

schemathesis.openapi.format("uri", strategies.builds(_data_uri, _formats, _sides, _sides) | strategies.just(NOBODY))
schemathesis.openapi.format(
    "cursor",
    strategies.integers(0, 2**53).map(
        lambda before: base64.urlsafe_b64encode(before.to_bytes(8)).rstrip(b"=").decode()
    ),
)


@schemathesis.serializer("application/jsonl", "application/x-ndjson")
def lines(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Encodes a file of lines, which the document describes as a string."""
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


IDS = ("task_id", "prediction_id")
AT_HAND = 5
_there: dict[str, None] = {}
"""Tasks that an answer has shown, the newest last. Made-up ids name none, and others are soon deleted by made-up
requests: most of those are sent for one of these, else nearly all of them would be answered by 404 or 410."""


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Replaces some made-up ids by those of existing tasks, and shortens valid waits; invalid ones stay as they are."""
    for name in IDS:
        given = case.path_parameters.get(name)
        is_meant = case.meta is None or case.meta.generation.mode.is_positive
        if isinstance(given, str) and given not in _there and is_meant:
            chosen = zlib.crc32(given.encode(errors="replace"))
            if chosen % 4:
                case.path_parameters[name] = _task_at_hand(chosen // 4)
    wait = case.query.get("wait")
    if isinstance(wait, int) and LONGEST_WAIT_S < wait <= 300:
        case.query["wait"] = LONGEST_WAIT_S
    if str(case.headers.get("Prefer", "")).startswith("wait"):
        case.headers["Prefer"] = f"wait={LONGEST_WAIT_S}"


def _task_at_hand(number: int) -> str:
    """Returns one of the newest tasks; makes one if there are too few."""
    if len(_there) < AT_HAND:
        body = {
            "model": ("image-scoring-v1", "superres-x4")[number % 2],
            "input": {"image_url": (_data_uri("png", 9, 9), NOBODY)[number % 5 == 0]},
            "webhook": {"url": NOBODY},
            "metadata": {"number": str(number)},
        }
        headers = {"X-API-Key": os.environ["CONTRACT_API_KEY"]} | ({"Prefer": "wait=1"} if number % 3 else {})
        answer = requests.post(f"{os.environ['CONTRACT_URL']}/v1/tasks", json=body, headers=headers, timeout=20)
        _there[answer.json()["task_id"]] = None
    return list(_there)[-1 - number % min(len(_there), 4 * AT_HAND)]


@schemathesis.hook
def after_call(context: schemathesis.HookContext, case: schemathesis.Case, response: schemathesis.Response) -> None:
    """Remembers the existing tasks."""
    for name in IDS:
        if response.status_code in (204, 404, 410):
            _there.pop(str(case.path_parameters.get(name)), None)
    if response.status_code in (200, 201, 202) and response.headers.get("content-type") == ["application/json"]:
        said = response.json()
        if isinstance(said, dict) and "deleted" in said:
            _there.clear()
        for task in said.get("data", [said]) if isinstance(said, dict) else []:
            found = task.get("task_id") or task.get("id") if isinstance(task, dict) else None
            if isinstance(found, str) and found.startswith("tsk_"):
                _there[found] = None
