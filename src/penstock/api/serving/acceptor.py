"""Accepts connections from one listening socket.

uvloop's own server does so too, but drops connections without a word when there are no more files, and knows no limit.
"""

import asyncio
import errno
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from loguru import logger

from penstock.api.http.addresses import UNKNOWN, ClientAddresses, network_of
from penstock.api.serving.admission import BEHIND_PROXY, Admission, Place
from penstock.telemetry import metrics

AT_ONCE = 64
"""Most connections that are accepted before other work has its turn. A process that shares its sockets with others
accepts one at a time, so that those which have nothing else to do get the next."""
SHARE_AT_ONCE = 4
"""And at most this part of those that one address may have: a connection takes three turns of the loop until it can
make room, and those of one burst must not keep out who comes behind them."""
GONE_AFTER_S = 90
"""A client that acknowledges nothing for so long is gone: its path may have died without a word, and the kernel would
send again for a quarter of an hour. Who pauses that long while it reads is cut off too, as with STALL_TIMEOUT_S."""
OF_TCP = {
    "TCP_NODELAY": 1,
    "TCP_USER_TIMEOUT": GONE_AFTER_S * 1000,
    "TCP_KEEPIDLE": 30,  # seconds: asks where nothing is on its way
    "TCP_KEEPINTVL": 10,
}
INHERITED = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    *((socket.IPPROTO_TCP, getattr(socket, name), value) for name, value in OF_TCP.items() if hasattr(socket, name)),
)
"""Options of the listening socket, which its connections inherit; those that this system knows."""
PAUSE_S = 0.1
"""The wait after a failure of `accept`: the listener would report the same connection again at once."""
QUIET_S = 10.0
"""The log has a line about failures, and one about refused connections, at most this often."""
NO_ROOM = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
REFUSED_KEPT = 64
"""Refused connections that stay open for a moment, so that their clients read the answer before a reset."""
_TAKEN_BYTES = 64 * 1024

Protocols = Callable[[Place], asyncio.Protocol]


class Acceptor:
    """Accepts from one socket until it is closed. uvicorn treats it as a server of asyncio."""

    def __init__(
        self,
        listener: socket.socket,
        protocols: Protocols,
        admission: Admission,
        addresses: ClientAddresses,
        refusal: Callable[[], bytes],
        backlog: int,
        at_once: int = AT_ONCE,
    ) -> None:
        self._listener = listener
        self._protocols = protocols
        self._admission = admission
        self._addresses = addresses
        self._refusal = refusal
        self._at_once = min(at_once, max(1, admission.most_of_one // SHARE_AT_ONCE))
        self._loop = asyncio.get_running_loop()
        self._beginning: set[asyncio.Task[Any]] = set()
        self._refused: deque[socket.socket] = deque()
        self._failures, self._refusals = _Rarely(), _Rarely()
        if listener.family != socket.AF_UNIX:
            for level, option, value in INHERITED:
                listener.setsockopt(level, option, value)
        listener.setblocking(False)
        listener.listen(backlog)
        self._listen()

    def close(self) -> None:
        """Stop to accept, and close the socket."""
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        while self._refused:
            self._refused.popleft().close()

    async def wait_closed(self) -> None:
        """Return at once: the connections end on their own."""

    def _listen(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.add_reader(self._listener, self._accept)

    def _accept(self) -> None:
        for _ in range(self._at_once):
            try:
                connection, peer = self._listener.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in NO_ROOM:
                    self._fail(error)
                    return
                continue  # this one client has gone
            self._begin(connection, peer)

    def _fail(self, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, "other")
        metrics.report("accept.failures", error=name)
        made_room = self._admission.evict()
        if self._failures.is_due():
            logger.bind(error=name, closed_a_silent_one=made_room).error(
                "connections cannot be accepted: the process has no more files or memory for them"
            )
        self._loop.remove_reader(self._listener)
        self._loop.call_later(PAUSE_S, self._listen)

    def _begin(self, connection: socket.socket, peer: Any) -> None:
        connection.setblocking(False)
        place = self._admission.admit(self._address_of(peer))
        if place is None:
            self._refuse(connection)
            return
        task = self._loop.create_task(self._connect(connection, place))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _connect(self, connection: socket.socket, place: Place) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: self._protocols(place), connection)
        except OSError:  # the client has gone
            connection.close()
            self._admission.leave(place)

    def _address_of(self, peer: Any) -> str:
        if not isinstance(peer, tuple) or self._addresses.is_trusted(peer[0]):
            return BEHIND_PROXY
        return network_of(peer[0]) or UNKNOWN

    def _refuse(self, connection: socket.socket) -> None:
        """Answer at once, and close when others are refused after it: what a client has sent by then is read, because
        the kernel would reset the connection otherwise, and the client might not see its answer."""
        if self._refusals.is_due():
            logger.warning("connections are refused: too many are open, and none of them is silent")
        try:
            connection.send(self._refusal())
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            connection.close()
            return
        self._refused.append(connection)
        self._loop.call_later(1.0, self._end_refused, connection)
        if len(self._refused) > REFUSED_KEPT:
            self._end_refused(self._refused[0])

    def _end_refused(self, connection: socket.socket) -> None:
        if connection not in self._refused:
            return
        self._refused.remove(connection)
        try:
            connection.recv(_TAKEN_BYTES)
        except OSError:
            pass
        finally:
            connection.close()


class _Rarely:
    """Says once in `QUIET_S` that something is due."""

    def __init__(self) -> None:
        self._next = 0.0

    def is_due(self) -> bool:
        now = time.monotonic()
        is_due = now >= self._next
        if is_due:
            self._next = now + QUIET_S
        return is_due
