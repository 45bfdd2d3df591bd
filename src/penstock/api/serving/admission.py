"""How many connections there may be, in all and of one address, and which one makes room for the next.

A connection without a request in progress is silent, and may be closed at any time. So a client with something to say
gets in, however many connections others hold open.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable

from penstock.telemetry import metrics

FIRST_S = 1.0
"""The time that a new connection has for its first request before it may make room."""
BEHIND_PROXY = "*"
"""The address of connections from a trusted proxy: its clients are counted, request by request, and it is not."""


class Place:
    """The place of one connection, until it `leaves`."""

    __slots__ = ("address", "began", "close", "is_taken")

    def __init__(self, address: str) -> None:
        self.address = address
        self.began = time.monotonic()
        self.close: Callable[[], None] | None = None
        """Closes the connection at once; None until it is made."""
        self.is_taken = True


class Admission:
    """Counts the connections of a process, and the requests in progress of the clients behind proxies.

    It needs as much memory as there are connections, whatever addresses they come from.
    """

    def __init__(self, most: int, most_of_one: int) -> None:
        self.most = most
        self.most_of_one = most_of_one
        self._new: dict[Place, None] = {}
        """Connections that have not made a request yet, the oldest first."""
        self._idle: dict[Place, None] = {}
        """Connections that have been answered and are silent since, the longest silent first."""
        self._of_address: Counter[str] = Counter()
        self._total = 0
        metrics.meters().observe("connections", lambda: [(self._total, {})])

    def admit(self, address: str) -> Place | None:
        """Return a place for a connection from this address, or None if there is none. Silent ones make room."""
        if not self._may_enter(address):
            metrics.report("connections.refused", why="address")
            return None
        if self._total >= self.most and not self.evict():
            metrics.report("connections.refused", why="all")
            return None
        place = Place(address)
        self._new[place] = None
        self._of_address[address] += 1
        self._total += 1
        return place

    def enter(self, address: str) -> bool:
        """Count a request of a client behind a proxy; return whether it may go on. It has to `exit` then."""
        if not self._may_enter(address):
            metrics.report("connections.refused", why="address")
            return False
        self._of_address[address] += 1
        return True

    def exit(self, address: str) -> None:
        """Count the end of a request, or of a connection, of this address."""
        self._of_address[address] -= 1
        if not self._of_address[address]:
            del self._of_address[address]

    def leave(self, place: Place) -> None:
        """Free a place. It may be called again."""
        if place.is_taken:
            place.is_taken = False
            self.is_busy(place)
            self._total -= 1
            self.exit(place.address)

    def is_busy(self, place: Place) -> None:
        """Note that a request has come; the connection is left alone until it is answered."""
        self._new.pop(place, None)
        self._idle.pop(place, None)

    def is_silent(self, place: Place) -> None:
        """Note that a request was answered, and that no other one is in progress."""
        if place.is_taken:
            self._idle[place] = None

    def evict(self, address: str | None = None) -> bool:
        """Close the longest silent connection, of this address or of any; return whether there was one.

        Those that have not made a request in `FIRST_S` go first, and those that only just came go last: their request
        may be on its way.
        """
        begun_before = time.monotonic() - FIRST_S
        place = _first(self._new, address, begun_before) or _first(self._idle, address) or _first(self._new, address)
        if place is None or place.close is None:
            return False
        self.leave(place)
        place.close()
        metrics.report("connections.closed", why="evicted")
        return True

    def _may_enter(self, address: str) -> bool:
        is_counted = address != BEHIND_PROXY
        return not is_counted or self._of_address[address] < self.most_of_one or self.evict(address)


def _first(places: Iterable[Place], address: str | None, begun_before: float = math.inf) -> Place | None:
    """Returns the first of these, the oldest first, that is made and of this address, unless it is too young."""
    for place in places:
        if place.began > begun_before:
            return None
        if place.close is not None and address in (None, place.address):
            return place
    return None
