"""Sessions that are opened for the first task that wants them: others neither wait nor pay for them."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

from penstock.errors import ConfigurationError, ModelUnavailable

S = TypeVar("S")


class LateSessions(Generic[S]):
    """Sessions by name. `open_one` opens the one with a name; `what` tells in messages what they are. Any thread may
    ask."""

    def __init__(self, open_one: Callable[[str], S], what: str) -> None:
        self._open = open_one
        self._what = what
        self._sessions: dict[str, S] = {}
        self._lock = Lock()

    @property
    def opened(self) -> tuple[S, ...]:
        """Those that are open."""
        return tuple(self._sessions.values())

    def of(self, name: str) -> S:
        """The session with this name. Raises ModelUnavailable where the device cannot have it."""
        if name not in self._sessions:
            with self._lock:
                if name not in self._sessions:
                    self._sessions[name] = self._opened(name)
        return self._sessions[name]

    def _opened(self, name: str) -> S:
        try:
            return self._open(name)
        except ConfigurationError as error:
            raise ModelUnavailable(f"{name} {self._what}: {error}") from error
