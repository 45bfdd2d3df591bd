"""Requests to processes of our own on this machine. No proxy is asked, whatever the environment says: it would lead
away from here."""

from urllib.error import HTTPError
from urllib.request import ProxyHandler, build_opener

_DIRECT = build_opener(ProxyHandler({}))


def read(url: str, *, timeout_s: float) -> tuple[int, bytes]:
    """Status and body of the answer, whatever the status is. Raises OSError when there is none in time."""
    try:
        with _DIRECT.open(url, timeout=timeout_s) as answer:
            return answer.status, answer.read()
    except HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()
