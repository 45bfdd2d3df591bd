"""The time that a client has to send a request: one deadline from its first byte to the end of its body."""

import math

HEAD_S = 10.0
"""Longest time from the connection, or from the first byte of a later request, to the end of the headers."""
NEVER = math.inf


class ReceiveClock:
    """Measures how a client sends one request.

    The client has `grace_s`, and for each byte that it sends the time that this takes at `bytes_per_s`. It may be
    silent for `grace_s` to twice that. The time in which the server itself does not read is not the client's.
    """

    __slots__ = ("_began", "_bytes_per_s", "_held_s", "_paused_at", "_seen", "grace_s", "received")

    def __init__(self, grace_s: float, bytes_per_s: int) -> None:
        self.grace_s = grace_s
        self._bytes_per_s = bytes_per_s
        self.received = 0
        self._paused_at: float | None = None
        self.begin(0.0, grace_s)

    def begin(self, now: float, grace_s: float) -> float:
        """Start anew at the first byte of a request, and return when to look at it first."""
        self.grace_s = grace_s
        self._began = now
        self._held_s = 0.0
        self.received = 0
        self._seen = (0, 0.0)
        return now + grace_s

    def first_look(self) -> float:
        """Return when to look at a request first whose body may still come."""
        return self._began + self.grace_s

    def pause(self, now: float) -> None:
        """Note that the server reads no more for now."""
        if self._paused_at is None:
            self._paused_at = now

    def resume(self, now: float) -> None:
        """Note that the server reads again."""
        if self._paused_at is not None:
            self._held_s += now - max(self._paused_at, self._began)
            self._paused_at = None

    def next_look(self, now: float) -> float:
        """Return when to look at it again; that is in the past if the client has no time left."""
        if self._paused_at is not None:
            return now + self.grace_s
        ends = self._began + self.grace_s + self._held_s + self.received / self._bytes_per_s
        last, self._seen = self._seen, (self.received, self._held_s)
        return min(ends, now if last == self._seen else now + self.grace_s)
