"""Closing a connection while its client is still sending (RFC 9112, 9.6: "lingering close").

A request can be refused after its first bytes. The kernel resets a connection that is closed with bytes unread, and the
reset may overtake the answer; many clients read nothing before they have sent everything.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from penstock.api.serving.deadlines import ReceiveClock

LINGER_S = 30.0
"""Longest time that a client may go on sending after its answer."""
IDLE_S = 5.0
"""Longest time that it may send nothing meanwhile."""
LINGER_BYTES = 256 * 1024 * 1024
"""Most bytes that it may send meanwhile: more than the largest body that is accepted by default."""


class LingeringTransport:
    """A transport whose `close` ends the answer and then drops what the client still sends, within bounds.

    It closes for good when the client has closed its side. `is_receiving` tells whether a request is still coming; if
    not, `close` closes at once, as a second `close` does. `clock` is told when the server stops to read
    and when it reads again.
    """

    def __init__(self, transport: asyncio.Transport, is_receiving: Callable[[], bool], clock: ReceiveClock) -> None:
        self._transport = transport
        self._is_receiving = is_receiving
        self._clock = clock
        self.write = transport.write  # so that an answer does not go through `__getattr__`
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._ends = 0.0
        self._dropped = self._seen = 0
        self.is_lingering = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        """Return whether nothing more can be sent."""
        return self.is_lingering or self._transport.is_closing()

    def close(self) -> None:
        """Close now, or after the client has sent the rest of its request."""
        if self.is_closing() or not self._is_receiving():
            self.close_now()
            return
        self.is_lingering = True
        self._ends = self._loop.time() + LINGER_S
        self._transport.write_eof()  # the client sees the end of the answer now
        self.resume_reading()  # uvicorn stops reading when a body is longer than its buffer
        self._timer = self._loop.call_later(IDLE_S, self._look)

    def close_now(self) -> None:
        """Close now, even if the client is still sending."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.close()

    def abort(self) -> None:
        """Close now, and drop what the client has not taken yet."""
        if self._timer is not None:
            self._timer.cancel()
        self._transport.abort()

    def pause_reading(self) -> None:
        """Stop to read; the time until `resume_reading` is not the client's."""
        self._clock.pause(self._loop.time())
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        self._clock.resume(self._loop.time())
        self._transport.resume_reading()

    def drop(self, size: int) -> None:
        """Count bytes that came after the answer and that nobody reads."""
        self._dropped += size
        if self._dropped > LINGER_BYTES:
            self.close_now()

    def _look(self) -> None:
        if self._dropped == self._seen or self._loop.time() >= self._ends:
            self.close_now()
            return
        self._seen = self._dropped
        self._timer = self._loop.call_later(IDLE_S, self._look)
