"""Who sends requests: a guarded session to other hosts, and direct reads of our own processes on this machine."""

from __future__ import annotations

from collections.abc import Mapping
from http.client import HTTPException
from typing import TYPE_CHECKING
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from penstock.lazy_import import lazy_import, load

if TYPE_CHECKING:
    import aiohttp
    from aiohttp.abc import AbstractResolver

    from penstock.net import egress
    from penstock.net.guard import Policy
else:
    egress = lazy_import("penstock.net.egress")

# The proxies of the environment are ignored: they would lead away from this machine.
_DIRECT = build_opener(ProxyHandler({}))


class GuardedSession:
    """A client session that connects only where the policy allows; its owner closes it.

    It is opened at its first use, so that a process which sends no request never loads aiohttp. `resolver` and
    `connections` are passed on to `egress.guarded_session`.
    """

    def __init__(
        self,
        policy: Policy,
        headers: Mapping[str, str],
        *,
        resolver: AbstractResolver | None = None,
        connections: int = 100,
    ) -> None:
        self._policy = policy
        self._headers = headers
        self._resolver = resolver
        self._connections = connections
        self._session: aiohttp.ClientSession | None = None

    async def opened(self) -> aiohttp.ClientSession:
        """The session, the same at every call."""
        await load("penstock.net.egress")
        if self._session is None:
            self._session = egress.guarded_session(
                self._policy, self._headers, resolver=self._resolver, connections=self._connections
            )
        return self._session

    async def close(self) -> None:
        """Close the session, if it was opened."""
        if self._session is not None:
            await self._session.close()


def read_local(url: str, *, timeout_s: float, accept: str = "") -> tuple[int, bytes]:
    """The status and the body that a process on this machine answers, whatever the status is.

    Raises OSError when it does not answer in time, or breaks off.
    """
    try:
        with _DIRECT.open(_request(url, accept), timeout=timeout_s) as response:
            return response.status, response.read()
    except HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.read()
    except HTTPException as error:
        raise ConnectionError(f"it broke off its answer: {error!r}") from error


def _request(url: str, accept: str) -> Request:
    return Request(url, headers={"Accept": accept} if accept else {})  # noqa: S310  the URL is that of our own process
