"""What a target is: one reader of untrusted bytes, and what must be true of whatever it says."""

import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from penstock.errors import PenstockError

ACCEPTED = "accepted"
"""The outcome of an input that the reader takes."""

LONGEST_OUTCOME = 60
_VARIES = re.compile(r"[^a-z ]+")


class Target(Struct, frozen=True):
    """A reader of untrusted bytes.

    `check` reads one input and returns its outcome: ACCEPTED, or which refusal it met. Whatever it raises is a fault:
    an assertion that does not hold, or an error that the reader must not raise. Inputs are made from `seeds` and
    `words`, and have at most `most_bytes`; `mended` makes checksums and the like right again.
    """

    name: str
    check: Callable[[bytes], str]
    seeds: Callable[[], Sequence[bytes]]
    words: tuple[bytes, ...] = ()
    most_bytes: int = 4096
    mended: Callable[[bytes], bytes] | None = None


def refusal(error: Exception) -> str:
    """Return what kind of refusal an error is: its code and its words, without what differs from input to input."""
    code = error.code if isinstance(error, PenstockError) else type(error).__name__
    words = _VARIES.sub(" ", str(error).lower())
    return f"{code}: {' '.join(words.split())}"[:LONGEST_OUTCOME]


def text_of(data: bytes) -> str:
    """Return an input as text; what is no UTF-8 becomes lone surrogates, which JSON cannot carry but code can meet."""
    return data.decode(errors="surrogateescape")
