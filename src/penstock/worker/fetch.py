"""Downloads inputs: guarded, and bounded in bytes, hops and seconds.

The guard acts three times on every hop: on the text of the URL, here, and on the addresses, in `egress`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple, Self

from penstock import __version__
from penstock.errors import (
    InputDownloadFailed,
    InputNotFound,
    InputTooLarge,
    PenstockError,
    UnsupportedImageFormat,
    UrlBlocked,
)
from penstock.lazy_import import lazy_import
from penstock.net.guard import Policy, check_input, check_redirect
from penstock.net.session import GuardedSession
from penstock.settings import LimitSettings
from penstock.storage import S3Inputs

if TYPE_CHECKING:
    import aiohttp
    import yarl
    from aiohttp.abc import AbstractResolver

    from penstock.net import egress
else:
    aiohttp, yarl, egress = lazy_import("aiohttp"), lazy_import("yarl"), lazy_import("penstock.net.egress")

HEADERS = {"User-Agent": f"penstock/{__version__}", "Accept-Encoding": "identity"}

IMAGES = ("image/png", "image/jpeg", "image/webp")
"""By name: to `image/*` some sources answer with a format of their own choice."""

REDIRECTS = frozenset({301, 302, 303, 307, 308})

TRY_AGAIN = frozenset({408, 429})
"""The statuses of 4xx that say nothing about the URL: another try may succeed."""


class Download(NamedTuple):
    """What a source has sent, and the media type that it has given, if any."""

    data: bytes
    content_type: str | None = None


class Fetcher:
    """Downloads inputs; a process has one, and enters it.

    `public_url` is `api.public_url`, which no input may come from; `objects` reads inputs in S3 buckets, None where
    none may be there; `resolver` is passed to `egress.guarded_session`.
    """

    def __init__(
        self,
        limits: LimitSettings,
        *,
        public_url: str = "",
        objects: S3Inputs | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._limits = limits
        self._objects = objects
        self._policy = Policy.from_limits(limits, public_url=public_url)
        self._session = GuardedSession(self._policy, HEADERS, resolver=resolver)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def max_bytes(self) -> int:
        """The most bytes that an input may have, wherever it comes from."""
        return self._limits.max_input_bytes

    async def fetch(self, url: str) -> bytes:
        """Returns the bytes of the image behind the URL, as `download` does."""
        return (await self.download(url)).data

    async def download(self, url: str, *, accept: Sequence[str] = IMAGES, limit: int | None = None) -> Download:
        """Returns what is behind the URL, at most `limit` bytes (or else `limits.max_input_bytes`), within
        `limits.fetch_timeout_s`. The source is asked for the media types `accept`, and may send others.

        Raises UrlBlocked, InputNotFound, InputTooLarge, UnsupportedImageFormat (for a Content-Encoding), and
        InputDownloadFailed, the only one that is retried. Their texts repeat nothing that the source sent. A connection
        into `limits.allow_networks` that fails does so after `limits.fetch_timeout_s`, whatever the reason. A canceled
        download closes its connection."""
        limit = self.max_bytes if limit is None else limit
        try:
            async with asyncio.timeout(self._limits.fetch_timeout_s):
                place = check_input(url, self._policy)
                if isinstance(place, str):
                    return await self._follow(place, {"Accept": ", ".join([*accept, "*/*;q=0.1"])}, limit)
                if self._objects is None:
                    raise UrlBlocked("this worker reads no buckets")
                return Download(await self._objects.read(place.bucket, place.key, limit=limit))
        except TimeoutError as error:
            limit_s = self._limits.fetch_timeout_s
            raise InputDownloadFailed(f"there was no complete answer within {limit_s:g} s") from error

    async def _follow(self, url: str, headers: Mapping[str, str], limit: int) -> Download:
        for _ in range(self._limits.max_redirects + 1):
            host = yarl.URL(url, encoded=True).raw_host or ""
            session = await self._session.opened()
            with _translated(host):
                async with egress.even_failures():
                    answer = await self._ask(session, url, headers, limit)
            if isinstance(answer, Download):
                return answer
            url = check_redirect(url, answer, self._policy)
        raise UrlBlocked(f"the source redirects more than {self._limits.max_redirects} times")

    async def _ask(
        self, session: aiohttp.ClientSession, url: str, headers: Mapping[str, str], limit: int
    ) -> Download | str:
        """Returns what was sent, or, as a str, where a redirect leads."""
        # encoded=True: the URL is requested as checked, not parsed into something else once more.
        async with session.get(yarl.URL(url, encoded=True), headers=headers, allow_redirects=False) as response:
            if response.status in REDIRECTS and "Location" in response.headers:
                return response.headers["Location"]
            _check_status(response.status)
            _check_encoding(response)
            return Download(await self._read(response, limit), response.headers.get("Content-Type"))

    async def _read(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        too_large = InputTooLarge(f"the input has more than {limit} bytes")
        if (response.content_length or 0) > limit:
            raise too_large
        body = bytearray()
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) > limit:
                raise too_large
        return bytes(body)


def _check_status(status: int) -> None:
    if 200 <= status < 300:
        return
    if 400 <= status < 500 and status not in TRY_AGAIN:
        raise InputNotFound(f"the source answered {status}")
    raise InputDownloadFailed(f"the source answered {status}")


def _check_encoding(response: aiohttp.ClientResponse) -> None:
    # The request asks for none. Unpacking one would let a small download become any number of bytes.
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedImageFormat("the source sent a Content-Encoding; an input must be sent as it is")


# --- errors -------------------------------------------------------------------------------------------------


@contextmanager
def _translated(host: str) -> Iterator[None]:
    """Raise errors of aiohttp as ours, without their text: that may hold addresses, or bytes the source sent."""
    try:
        yield
    except aiohttp.ClientError as error:
        raise _ours(error, host) from error


def _ours(error: aiohttp.ClientError, host: str) -> PenstockError:
    match error:
        case aiohttp.ClientConnectorError(os_error=egress.BlockedAddress() as blocked):
            return UrlBlocked(str(blocked))
        case aiohttp.ClientConnectorDNSError():
            return InputDownloadFailed(f"the host {host} does not resolve")
        case aiohttp.ClientSSLError():
            return InputDownloadFailed(f"no TLS connection to {host}: its certificate or protocol is not accepted")
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return InputDownloadFailed(f"no connection to {host}")
        case aiohttp.InvalidURL():
            return UrlBlocked("the URL is malformed")
        case _:
            return InputDownloadFailed(f"the connection to {host} broke off, or its answer was not HTTP")
