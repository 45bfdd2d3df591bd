"""Clients of tests share what they have read of CAs, which takes 50 ms of CPU each time."""

import os
import ssl
from functools import cache
from typing import Any

import httpx._transports.default as transports

NAMED_BY = ("SSL_CERT_FILE", "SSL_CERT_DIR")

_really = transports.create_ssl_context


def share_contexts() -> None:
    """Let all transports of httpx with the same options have one context."""
    transports.create_ssl_context = _shared


def _shared(**options: Any) -> ssl.SSLContext:
    return _made(tuple(os.environ.get(name) for name in NAMED_BY), **options)


@cache
def _made(_: tuple[str | None, ...], **options: Any) -> ssl.SSLContext:
    return _really(**options)
