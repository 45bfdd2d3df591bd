"""What an attempt is, and what it got."""

from collections.abc import Callable

from msgspec import Struct

from tools.attack.target import Target


class Outcome(Struct, frozen=True):
    """What an attempt got, in a few words, and whether that is what it should have got."""

    got: str
    is_right: bool
    began: float = 0.0
    """When it began (`time.monotonic`), where that is later than its preparations."""


class Attempt(Struct, frozen=True):
    """One thing that a hostile client tries. Meanwhile a healthy client must be answered within `patience_s`."""

    name: str
    run: Callable[[Target], Outcome]
    patience_s: float = 0.5
    is_in_short: bool = True
    """Whether a short run tries it too."""
