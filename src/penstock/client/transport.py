"""Sends requests to one server, repeats them while that may help, and decodes the answers."""

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import IO, Any, Protocol, TypeVar

import httpx
import msgspec

from penstock.client.address import address_of, is_loopback
from penstock.client.files import File
from penstock.client.problems import DAMAGED, PenstockApiError, refusal, unreachable
from penstock.client.processes import PerProcess
from penstock.client.retries import Tries
from penstock.client.views import Opened

ANSWER_S = 30.0
"""Longest silence of a server, in addition to the time it was asked to wait."""

STORED_S = 120.0
"""Longest silence of a receiver of a file, which writes all of it to disk before it answers."""

CHUNK_BYTES = 1024 * 1024

NOT_MODIFIED, FOUND = 304, 302

OF_A_TENANT = re.compile(r"/v1/(tasks|batches|uploads|stats|usage|workers$|queues/[^/]+/purge)")
"""The paths where an operator may name a tenant, and those of submits and uploads, where nobody may: they are refused
rather than made in the tenant of the key."""

OF_A_TASK = "/v1/tasks/"
"""Where the paths begin that the token of a task opens."""

CLOSED = "this client is closed"

T = TypeVar("T")


class PageOfList(Protocol):
    """A page of a list."""

    @property
    def next_cursor(self) -> str | None:
        """Where the next page begins; None if this is the last."""


P = TypeVar("P", bound=PageOfList)

OnPause = Callable[[PenstockApiError, float], None]


class Transport:
    """Connections to one server; `patience_s` is how long one request is tried, `tenant` is named wherever one may be,
    and `on_pause` is told before each pause why and for how many seconds."""

    def __init__(
        self,
        url: str | None,
        api_key: str | None,
        *,
        patience_s: float,
        connections: int,
        tenant: str | None = None,
        token: str | None = None,
        on_pause: OnPause | None = None,
    ) -> None:
        self.url, self._key = address_of(url, api_key, token=token)
        self._token = {} if token is None else {"token": token}
        self._patience_s = patience_s
        self._on_pause = on_pause
        self._tenant = {} if tenant is None else {"tenant": tenant}
        self._limits = httpx.Limits(max_connections=connections)
        self._trusts_env = not is_loopback(self.url)  # a proxy leads away from this machine
        self._to_server = PerProcess(self._connect)
        self._to_links = PerProcess(lambda: httpx.AsyncClient(trust_env=self._trusts_env))
        """Without the key, which is for nobody but the server."""
        self._is_closed = False

    async def close(self) -> None:
        """Closes all connections of this process; it may be called again."""
        self._is_closed = True
        for connections in (self._to_server, self._to_links):
            if made := connections.made():
                await made.aclose()

    def _connect(self) -> httpx.AsyncClient:
        # To read the CAs takes 50 ms of CPU, and a server of this machine is spoken to without TLS.
        has_tls = self._trusts_env or self.url.startswith("https:")
        return httpx.AsyncClient(
            base_url=self.url,
            headers={"x-api-key": self._key} if self._key else {},
            limits=self._limits,
            trust_env=self._trusts_env,
            verify=has_tls,
        )

    def _open(self, connections: PerProcess[httpx.AsyncClient]) -> httpx.AsyncClient:
        if self._is_closed:
            raise RuntimeError(CLOSED)
        return connections.get()

    async def ask(self, method: str, path: str, answer: type[T], **request: Any) -> T:
        """Returns the answer to a request that is safe to repeat."""
        return decoded(await self.send(method, path, **request), answer)

    async def pages(self, path: str, answer: type[P], query: Mapping[str, Any]) -> AsyncGenerator[P, None]:
        """Yields the pages of a list, the first first."""
        cursor: str | None = None
        while True:
            page = await self.ask("GET", path, answer, query={**query, "cursor": cursor})
            yield page
            cursor = page.next_cursor
            if cursor is None:
                return

    async def send(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0.0,
        repeat: bool = True,
    ) -> httpx.Response:
        """Returns the answer to a request that is safe to repeat, or that is sent once, without `repeat`. Raises
        PenstockApiError if it is refused."""
        said = self._named_at(path) | {name: value for name, value in (query or {}).items() if value is not None}
        head = {"content-type": "application/json", **(headers or {})} if body is not None else headers
        tries = Tries(self._patience_s)
        while True:
            try:
                answer = await self._open(self._to_server).request(
                    method, path, params=said, content=body, headers=head, timeout=_silence(tries, wait_s=wait_s)
                )
                if answer.is_success or answer.status_code == NOT_MODIFIED:
                    return answer
                error = refusal(answer)
            except httpx.TransportError as broken:
                error = unreachable(self.url, broken)
            if not repeat:
                raise error
            await self._pause(tries, error)

    async def deliver(self, opened: Opened, file: File) -> None:
        """Sends a file to the URL of its upload, repeating it while that may help. Raises OSError if it cannot be read
        or has become shorter."""
        tries = Tries(self._patience_s)
        while True:
            try:
                answer = await self._open(self._to_links).request(
                    opened.method,
                    opened.url,
                    headers=opened.headers,
                    content=_told(file.pieces(), tries),
                    timeout=_silence(tries, answer_s=STORED_S),
                )
                if answer.is_success:
                    return
                error = refusal(answer)
            except httpx.TransportError as broken:
                error = unreachable(opened.url.partition("?")[0], broken)
            await self._pause(tries, error)

    async def receive(self, path: str, sink: IO[bytes], *, sha256: str | None) -> None:
        """Writes a result to the sink, each time from its beginning, until it is whole and its digest is right."""
        tries = Tries(self._patience_s)
        while True:
            try:
                return await self._copy(path, sink, sha256, tries)
            except httpx.TransportError as broken:
                error = unreachable(self.url, broken)
            except PenstockApiError as refused:
                error = refused
            await self._pause(tries, error)

    def _named_at(self, path: str) -> dict[str, str]:
        tenant = self._tenant if OF_A_TENANT.match(path) else {}
        return tenant | (self._token if path.startswith(OF_A_TASK) else {})

    async def _pause(self, tries: Tries, error: PenstockApiError) -> None:
        pause_s = tries.pause_after(error)
        if self._on_pause is not None:
            self._on_pause(error, pause_s)
        await asyncio.sleep(pause_s)

    async def _copy(self, path: str, sink: IO[bytes], sha256: str | None, tries: Tries) -> None:
        digest = hashlib.sha256()
        sink.seek(0)
        sink.truncate()
        async with self._opened(path, _silence(tries)) as answer:
            async for chunk in _told(answer.aiter_bytes(CHUNK_BYTES), tries):
                digest.update(chunk)
                await asyncio.to_thread(sink.write, chunk)
        if sha256 not in (None, digest.hexdigest()):
            raise PenstockApiError("other bytes came than the server has stored", code=DAMAGED, retryable=True)

    @asynccontextmanager
    async def _opened(self, path: str, silence: httpx.Timeout) -> AsyncIterator[httpx.Response]:
        http, query = self._open(self._to_server), self._named_at(path)
        async with http.stream("GET", path, params=query, timeout=silence) as answer:
            if answer.status_code != FOUND:
                yield await _accepted(answer)
                return
            link = answer.headers["location"]
        async with self._open(self._to_links).stream("GET", link, timeout=silence) as answer:
            yield await _accepted(answer)


def _silence(tries: Tries, *, wait_s: float = 0.0, answer_s: float | None = None) -> httpx.Timeout:
    """`wait_s` is what the server was asked to wait, `answer_s` its longest silence when all was sent. For a free
    connection of ours one waits as long as it takes."""
    silence_s = tries.silence_s(ANSWER_S)
    read_s = silence_s if answer_s is None else tries.silence_s(answer_s)
    return httpx.Timeout(silence_s, read=read_s + wait_s, pool=None)


async def _told(pieces: AsyncIterator[bytes], tries: Tries) -> AsyncGenerator[bytes, None]:
    async for piece in pieces:
        yield piece
        tries.moved()


async def _accepted(answer: httpx.Response) -> httpx.Response:
    if not answer.is_success:
        await answer.aread()
        raise refusal(answer)
    return answer


def decoded(answer: httpx.Response, kind: type[T]) -> T:
    """Decodes the body. Raises PenstockApiError if something else than Penstock has answered."""
    try:
        return msgspec.json.decode(answer.content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise PenstockApiError(
            f"{answer.url.host} answered, and not as Penstock does ({error})",
            code=f"http_{answer.status_code}",
            status=answer.status_code,
        ) from error
