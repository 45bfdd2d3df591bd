"""Where a process of the tests runs: on this machine, or on a host with a network of its own."""

from collections.abc import Callable

from msgspec import Struct


def stay() -> None:
    """Goes nowhere."""


class Place(Struct, frozen=True):
    """`address` is where the process listens, and where it is reached. `enter` is called in the new process before its
    program begins; it must be quick and take no lock."""

    address: str = "127.0.0.1"
    enter: Callable[[], None] = stay


HERE = Place()

PlaceOf = Callable[[str], Place]
"""Where the process of a name runs."""


def here(name: str) -> Place:
    """All processes run on this machine."""
    return HERE
