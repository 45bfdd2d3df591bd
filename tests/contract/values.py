"""What Schemathesis cannot make up from the document alone; it loads this file (SCHEMATHESIS_HOOKS)."""

import base64
import io

import schemathesis
from hypothesis import strategies
from PIL import Image


def _data_uri(format: str, width: int, height: int) -> str:
    out = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(out, format)
    return f"data:image/{format};base64,{base64.b64encode(out.getvalue()).decode()}"


_sides = strategies.integers(1, 48)
_formats = strategies.sampled_from(("png", "jpeg", "webp"))

schemathesis.openapi.format("uri", strategies.builds(_data_uri, _formats, _sides, _sides))
schemathesis.openapi.format(
    "cursor",
    strategies.integers(0, 2**53).map(
        lambda before: base64.urlsafe_b64encode(before.to_bytes(8)).rstrip(b"=").decode()
    ),
)
