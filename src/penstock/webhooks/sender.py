"""The POST of one message, and its outcome. Redirects are not followed, and only the head of an answer is read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Literal, Self

from msgspec import Struct

from penstock import __version__
from penstock.errors import UrlBlocked
from penstock.lazy_import import lazy_import
from penstock.net.guard import Policy, check_url
from penstock.net.session import GuardedSession
from penstock.webhooks.post_spans import traced_post

if TYPE_CHECKING:
    import aiohttp
    import yarl
    from aiohttp.abc import AbstractResolver

    from penstock.net import egress
else:
    aiohttp, yarl, egress = lazy_import("aiohttp"), lazy_import("yarl"), lazy_import("penstock.net.egress")

HEADERS = {
    "User-Agent": f"penstock/{__version__}",
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
}

MAX_RETRY_AFTER_S = 86_400.0
"""A receiver may postpone its next delivery by a day at most."""

Verdict = Literal["delivered", "gone", "busy", "redirected", "refused", "broken", "timeout", "unreachable", "blocked"]

_BY_STATUS: dict[int, Verdict] = {410: "gone", 429: "busy", 502: "busy", 503: "busy", 504: "busy"}
_BY_CLASS: dict[int, Verdict] = {2: "delivered", 3: "redirected", 4: "refused"}


class PostOutcome(Struct, frozen=True, kw_only=True):
    """The outcome of a POST. `code` is the HTTP status of the answer, None where there was no answer; `retry_after_s`
    is how long the receiver asks to be left alone."""

    verdict: Verdict
    code: int | None = None
    retry_after_s: float = 0.0


class Sender:
    """Posts messages; use it inside `async with`.

    Each sender looks names up in threads of its own, so that name servers which do not answer hold up nobody else. The
    caller limits the number of connections. `resolver` is that of `egress.guarded_session`.
    """

    def __init__(self, policy: Policy, *, timeout_s: float, resolver: AbstractResolver | None = None):
        self._policy = policy
        self._timeout_s = timeout_s
        self._session = GuardedSession(policy, HEADERS, resolver=resolver, connections=0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @traced_post
    async def post(self, url: str, headers: Mapping[str, str], body: str) -> PostOutcome:
        """Post a message. Nothing that the receiver does raises.

        The URL was checked when the task was submitted, and is checked again: the policy may have changed since. What
        fails in a network of `limits.allow_networks` is a `timeout`, whatever it is.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                checked = yarl.URL(check_url(url, self._policy), encoded=True)
                session = await self._session.opened()
                async with (
                    egress.even_failures(),
                    session.post(checked, headers=headers, data=body, allow_redirects=False) as response,
                ):
                    return _outcome(response.status, response.headers.get("Retry-After"))
        except TimeoutError:
            return PostOutcome(verdict="timeout")
        except UrlBlocked:
            return PostOutcome(verdict="blocked")
        except aiohttp.ClientConnectorError as error:
            is_blocked = isinstance(error.os_error, egress.BlockedAddress)
            return PostOutcome(verdict="blocked" if is_blocked else "unreachable")
        except (aiohttp.ClientError, OSError):
            return PostOutcome(verdict="unreachable")


def _outcome(status: int, retry_after: str | None) -> PostOutcome:
    verdict = _BY_STATUS.get(status) or _BY_CLASS.get(status // 100, "broken")
    return PostOutcome(verdict=verdict, code=status, retry_after_s=min(_seconds(retry_after), MAX_RETRY_AFTER_S))


def _seconds(retry_after: str | None) -> float:
    """The seconds that a `Retry-After` header asks for, as a number or as a date; 0 for anything else."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])  # nine digits are more than MAX_RETRY_AFTER_S, and no number gets too long to convert
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
