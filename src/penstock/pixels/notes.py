"""Notes: what was done to an image on its way to a result, in a closed list of words."""

from collections.abc import Iterable
from contextvars import ContextVar
from typing import Literal, get_args

Note = Literal[
    "turned",
    "profile_converted",
    "profile_ignored",
    "alpha_filled",
    "first_frame",
    "metadata_stripped",
    "truncated",
    "recomputed_in_fp32",
    "below_min_gain",
]
"""In the order in which they are told. `profile_…` is said of whatever tells what the values mean: an ICC profile, or a
PNG's cICP, gAMA and cHRM."""

NOTES: tuple[Note, ...] = get_args(Note)

OF_DECODING = NOTES[: NOTES.index("truncated") + 1]
"""Those that decoding gives, which fit into a byte; the others are of what was made of the image."""


_NOTED: ContextVar[set[Note] | None] = ContextVar("noted", default=None)


class noting:  # noqa: N801  it is read as a block; a generator would take twice the calls, twice a task
    """Inside of this block what is noted on this thread is in the set that it gives."""

    __slots__ = ("_before",)

    def __enter__(self) -> set[Note]:
        noted: set[Note] = set()
        self._before = _NOTED.set(noted)
        return noted

    def __exit__(self, *_: object) -> None:
        _NOTED.reset(self._before)


def note(*notes: Note) -> None:
    """Note what was done to an image, for the result of the task that this thread works on, if it works on one: no
    model has to pass it on."""
    if (noted := _NOTED.get()) is not None:
        noted.update(notes)


def in_order(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Each of these notes once, in the order of `Note`."""
    given = set(notes)
    return tuple(note for note in NOTES if note in given) if given else ()


def bits_of(notes: Iterable[Note]) -> int:
    """Notes of decoding as one number, with a bit for each."""
    return sum(1 << OF_DECODING.index(note) for note in set(notes))


def notes_in(bits: int) -> tuple[Note, ...]:
    """The notes that `bits_of` has packed. Bits of no note count for nothing."""
    return tuple(note for place, note in enumerate(OF_DECODING) if bits >> place & 1)
