"""What all pages have: the head, the style, and a policy that lets a page load nothing and run nothing."""

import base64
import hashlib
import re
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

from litestar import Request, Response

HTML = "text/html"

_STYLE = Path(__file__).with_name("site.css")
_CODE = re.compile(r"`([^`]+)`")
_MARK = (
    '<svg viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2.5" stroke-linecap="round" '
    'aria-hidden="true"><path d="M3 4h5l8 11h5M3 10h2l7 10h9"/><circle cx="18.5" cy="6.5" r="3"/></svg>'
)
_PAGE = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body><main>
{body}
</main></body>
</html>
"""


def page(title: str, body: str, **headers: str) -> Response[Any]:
    """Return a page with this body, which is HTML."""
    style, policy = _style_and_policy()
    text = _PAGE.format(title=escape(title), style=style, body=body)
    return Response(text, media_type=HTML, headers={"Content-Security-Policy": policy} | headers)


def heading(text: str, tag: str = "") -> str:
    """Return the top of a page; the tag stands beside its name."""
    beside = f'<span class="tag">{escape(tag)}</span>' if tag else ""
    return f"<header>{_MARK}<h1>{escape(text)}</h1>{beside}</header>"


def listing(text: str, label: str) -> str:
    """Return lines as they are; where they are long, the keyboard moves along them."""
    return f'<pre tabindex="0" role="region" aria-label="{escape(label)}">{escape(text, quote=False)}</pre>'


def prose(text: str) -> str:
    """Return a sentence as HTML; what stands between backticks is code."""
    return _CODE.sub(r"<code>\1</code>", escape(re.sub(r"\s+", " ", text).strip(), quote=False))


def prefix_of(request: Request[Any, Any, Any]) -> str:
    """Return the path of `api.public_url`, which a proxy removes before it passes a request on."""
    return request.base_url.path.rstrip("/")


@cache
def _style_and_policy() -> tuple[str, str]:
    style = _STYLE.read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return style, (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    )
