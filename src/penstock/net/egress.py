"""Connections to other hosts. A URL that a client named is never connected to past the guard.

`guard.check_url` reads the text of a URL beforehand. Here the guard acts twice more: on all addresses that a host
resolves to, and on the one address that a socket is made for. The last check is the one that counts: whatever a
resolver, a redirect or a library does, a connection can be made only through `_guarded_socket`.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NamedTuple

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from loguru import logger
from msgspec import Struct
from yarl import URL

from penstock.errors import UrlBlocked
from penstock.net.guard import Policy, check_address, is_allowed

CONNECT_TIMEOUT_S = 5.0
"""A host that is up answers within a round trip; a dead one must not hold a slot any longer."""

EXCHANGE_WITHIN_S = 10.0
EXCHANGED_BYTES = 64 * 1024

LOOKUPS_AT_ONCE = 32
"""Threads of one session for name look-ups; a name server that does not answer holds a thread for some seconds."""

NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def guarded_session(
    policy: Policy, headers: Mapping[str, str], *, resolver: AbstractResolver | None = None, connections: int = 100
) -> aiohttp.ClientSession:
    """A session that connects only where the policy allows, with at most so many connections at once (0: no limit).

    It keeps no cookies and no idle connections, ignores the proxies of the environment and decompresses nothing. It
    limits only the time to connect; the caller limits the rest, and refuses or checks redirects.

    `resolver` replaces the name look-up (for tests, or a name server of one's own); the address that is connected to is
    checked whatever it answers.
    """
    connector = aiohttp.TCPConnector(
        resolver=resolver or _GuardedResolver(policy),
        socket_factory=_guarded_socket(policy),
        force_close=True,  # each place is visited once; an idle connection would only tie it up
        limit=connections,
    )
    return aiohttp.ClientSession(
        connector=connector,
        headers=headers,
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,  # a proxy would make the connections, past the guard
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
    )


class _Peers(Struct):
    """Whether a connection was tried to an address that only `limits.allow_networks` allows."""

    has_allowed: bool = False


_PEERS: ContextVar[_Peers | None] = ContextVar("peers", default=None)


@asynccontextmanager
async def even_failures() -> AsyncIterator[None]:
    """Make all failures of a connection into `limits.allow_networks` alike; the caller must be inside of a deadline.

    Such a failure waits for that deadline. So neither its error nor its time tells a client whether a port of a private
    network is closed, filtered, or open without HTTP. Other failures are raised at once. The log has what happened.
    """
    peers = _Peers()
    token = _PEERS.set(peers)
    try:
        yield
    except aiohttp.ClientError as error:
        if not peers.has_allowed:
            raise
        logger.bind(failure=type(error).__name__).info("no answer from an address in limits.allow_networks")
        await asyncio.Event().wait()
    finally:
        _PEERS.reset(token)


class HttpAnswer(NamedTuple):
    """The answer of a host: its status, the first EXCHANGED_BYTES of its body, and its headers."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class NoAnswer(Exception):
    """A host did not answer; the text is the reason."""


async def exchange(method: str, url: str, *, headers: Mapping[str, str] | None = None, data: bytes = b"") -> HttpAnswer:
    """Send one small request to a host that the operator named, private or not, within EXCHANGE_WITHIN_S.

    The URL is sent as it is, and redirects are not followed. Raises NoAnswer.
    """
    try:
        async with (
            aiohttp.ClientSession(
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(total=EXCHANGE_WITHIN_S, sock_connect=CONNECT_TIMEOUT_S),
            ) as session,
            session.request(
                method, URL(url, encoded=True), headers=headers, data=data or None, allow_redirects=False
            ) as response,
        ):
            body = bytearray()
            while len(body) < EXCHANGED_BYTES and (chunk := await response.content.read(EXCHANGED_BYTES)):
                body += chunk
            return HttpAnswer(response.status, bytes(body[:EXCHANGED_BYTES]), response.headers)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise NoAnswer(str(error) or f"no answer within {EXCHANGE_WITHIN_S:g} s") from error


class BlockedAddress(OSError):
    """The policy does not allow an address.

    It is an OSError because aiohttp expects one where a name is looked up and where a socket is made; the caller finds
    it as the `os_error` of an `aiohttp.ClientConnectorError`.
    """


class _GuardedResolver(AbstractResolver):
    """Looks names up as the system does, and blocks a name with any private address, also among public ones.

    The look-ups run in threads of the session: those of the event loop are few, and shared by everybody.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._threads = ThreadPoolExecutor(LOOKUPS_AT_ONCE, thread_name_prefix="lookup")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        look_up = partial(
            socket.getaddrinfo, host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
        infos = await asyncio.get_running_loop().run_in_executor(self._threads, look_up)
        results = [
            ResolveResult(
                hostname=host, host=str(address[0]), port=int(address[1]), family=of, proto=protocol, flags=NUMERIC
            )
            for of, _, protocol, _, address in infos
            if len(address) < 4 or not address[3]  # an IPv6 address with a scope belongs to one link of this machine
        ]
        for result in results:
            _check_or_os_error(result["host"], self._policy)
        return results

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _guarded_socket(policy: Policy) -> Callable[[Any], socket.socket]:
    """A socket factory for aiohttp, which calls it with the final address of every attempt to connect."""

    def make(address_info: Any) -> socket.socket:
        family, kind, protocol, _, address = address_info
        _check_or_os_error(address[0], policy)
        if (peers := _PEERS.get()) and is_allowed(address[0], policy):
            peers.has_allowed = True
        return socket.socket(family, kind, protocol)

    return make


def _check_or_os_error(address: str, policy: Policy) -> None:
    try:
        check_address(address, policy)
    except UrlBlocked as error:
        raise BlockedAddress(error.detail) from error
    if not is_allowed(address, policy) and _is_own(address):
        raise BlockedAddress("the host leads to this server")


def _is_own(address: str) -> bool:
    """Whether an IP address is one of this machine. No packet is sent: the system only chooses a route, and from a
    machine to one of its own addresses that begins at this address."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, 9))
        except OSError:
            return False  # no route leads there
        return bool(probe.getsockname()[0] == address)
