"""What Schemathesis cannot make up from the document alone; it loads this file (SCHEMATHESIS_HOOKS)."""

import base64
import io
from typing import Any

import schemathesis
from hypothesis import strategies
from PIL import Image

LONGEST_WAIT_S = 1
"""A made-up request asks for no longer wait: what it would wait for may never be done."""


def _data_uri(format: str, width: int, height: int) -> str:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, format)
    return f"data:image/{format};base64,{base64.b64encode(out.getvalue()).decode()}"


_sides = strategies.integers(1, 48)
_formats = strategies.sampled_from(("png", "jpeg", "webp"))

schemathesis.openapi.format(
    "uri", strategies.builds(_data_uri, _formats, _sides, _sides) | strategies.just("https://nobody.invalid/there")
)
schemathesis.openapi.format(
    "cursor",
    strategies.integers(0, 2**53).map(
        lambda before: base64.urlsafe_b64encode(before.to_bytes(8)).rstrip(b"=").decode()
    ),
)


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Shorten the waits that are allowed; those that are not stay as they are."""
    wait = case.query.get("wait")
    if isinstance(wait, int) and LONGEST_WAIT_S < wait <= 300:
        case.query["wait"] = LONGEST_WAIT_S
    if str(case.headers.get("Prefer", "")).startswith("wait"):
        case.headers["Prefer"] = f"wait={LONGEST_WAIT_S}"
