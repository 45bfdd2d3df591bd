"""How a connection is closed while its client is still sending (RFC 9112, 9.6: "lingering close").

A request can be refused by its first bytes. Closed with bytes unread, a connection is reset, and the reset may reach
the client before it has read why; many clients do not read before they have sent everything.
"""

import asyncio
from collections.abc import Callable
from typing import Any

LINGER_S = 30.0
"""Longest time that a client may go on sending after its answer."""
IDLE_S = 5.0
"""Shorter, once it sends nothing."""
LINGER_BYTES = 256 * 1024 * 1024
"""Most that it may send: more than the largest body that is taken by default."""


class LingeringTransport:
    """A transport whose `close` ends what is sent, and drops what still comes until the client has sent all of it or
    goes, within bounds. `is_receiving` says whether more is to come. A second `close` closes at once."""

    def __init__(self, transport: asyncio.Transport, is_receiving: Callable[[], bool]) -> None:
        self._transport = transport
        self._is_receiving = is_receiving
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._ends = 0.0
        self._dropped = self._seen = 0
        self.is_lingering = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Whether nothing can be sent any more."""
        return self.is_lingering or self._transport.is_closing()

    def close(self) -> None:
        """Now, or when the client has sent what it is sending."""
        if self.is_closing() or not self._is_receiving():
            self.close_now()
            return
        self.is_lingering = True
        self._ends = self._loop.time() + LINGER_S
        self._transport.write_eof()
        self._transport.resume_reading()
        self._timer = self._loop.call_later(IDLE_S, self._look)

    def close_now(self) -> None:
        """Whatever the client is sending."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def drop(self, size: int) -> None:
        """So many bytes have come that nobody reads."""
        self._dropped += size
        if self._dropped > LINGER_BYTES:
            self.close_now()

    def _look(self) -> None:
        if self._dropped == self._seen or self._loop.time() >= self._ends:
            self.close_now()
            return
        self._seen = self._dropped
        self._timer = self._loop.call_later(IDLE_S, self._look)
