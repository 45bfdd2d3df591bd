"""One POST to a receiver, and what it says: no redirect is followed and no answer is read beyond its head."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from msgspec import Struct

from penstock import __version__
from penstock.errors import UrlBlocked
from penstock.lazy_import import deferred, load
from penstock.net.guard import Policy, check_url

if TYPE_CHECKING:
    import aiohttp
    import yarl
    from aiohttp.abc import AbstractResolver

    from penstock.net import egress
else:
    aiohttp, yarl, egress = deferred("aiohttp"), deferred("yarl"), deferred("penstock.net.egress")

HEADERS = {
    "User-Agent": f"penstock/{__version__}",
    "Content-Type": "application/json",
    "Accept-Encoding": "identity",
}

MAX_RETRY_AFTER_S = 86_400.0
"""A receiver may put its next delivery off for a day."""

Verdict = Literal["delivered", "gone", "busy", "redirected", "refused", "broken", "timeout", "unreachable", "blocked"]

OF_STATUS: dict[int, Verdict] = {410: "gone", 429: "busy", 502: "busy", 503: "busy", 504: "busy"}
OF_CLASS: dict[int, Verdict] = {2: "delivered", 3: "redirected", 4: "refused"}


class Answer(Struct, frozen=True, kw_only=True):
    """What came of a POST; `code` is the HTTP status, if there was one."""

    verdict: Verdict
    code: int | None = None
    retry_after_s: float = 0.0


class Sender:
    """Posts messages; open while it is entered. It looks up names in threads of its own, so that name servers which do
    not answer hold up nobody else. The caller bounds its connections.

    `resolver` is that of `guarded_session`.
    """

    def __init__(self, policy: Policy, *, timeout_s: float, resolver: AbstractResolver | None = None):
        self._policy = policy
        self._timeout_s = timeout_s
        self._resolver = resolver
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def post(self, url: str, headers: Mapping[str, str], body: str) -> Answer:
        """Never raises for what the receiver does. The URL is checked again: the policy may be another by now."""
        try:
            async with asyncio.timeout(self._timeout_s):
                checked = yarl.URL(check_url(url, self._policy), encoded=True)
                session = await self._opened()
                async with session.post(checked, headers=headers, data=body, allow_redirects=False) as response:
                    return _answer(response.status, response.headers.get("Retry-After"))
        except TimeoutError:
            return Answer(verdict="timeout")
        except UrlBlocked:
            return Answer(verdict="blocked")
        except aiohttp.ClientConnectorError as error:
            return Answer(verdict="blocked" if isinstance(error.os_error, egress.BlockedAddress) else "unreachable")
        except (aiohttp.ClientError, OSError):
            return Answer(verdict="unreachable")

    async def _opened(self) -> aiohttp.ClientSession:
        await load("penstock.net.egress")
        if self._session is None:
            self._session = egress.guarded_session(self._policy, HEADERS, resolver=self._resolver, limit=0)
        return self._session


def _answer(status: int, retry_after: str | None) -> Answer:
    verdict = OF_STATUS.get(status) or OF_CLASS.get(status // 100, "broken")
    return Answer(verdict=verdict, code=status, retry_after_s=min(_seconds(retry_after), MAX_RETRY_AFTER_S))


def _seconds(retry_after: str | None) -> float:
    """`Retry-After` is a number of seconds or a date; 0 for anything else."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    return max(0.0, (until.replace(tzinfo=until.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
