"""Values that each process must make for itself, since threads and connections do not survive a fork."""

import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

_forks = 0
"""Forks between the first process and this one; no two processes of one line of descent have the same number, which
process ids, being given out again, do not promise."""


class PerProcess(Generic[T]):
    """A value that is made at its first use, and once more in each process that is forked off after that.

    A child keeps what its parent has made and never touches it: the connections behind it are still the parent's. When
    several threads are the first to use it, some of what they make is dropped.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._made: dict[int, T] = {}

    def get(self) -> T:
        """The value of this process."""
        made = self.made()
        return self._made.setdefault(_forks, self._make()) if made is None else made

    def made(self) -> T | None:
        """The value of this process if it has one yet."""
        return self._made.get(_forks)


def _count() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_count)
