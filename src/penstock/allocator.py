"""The allocator of the C library: how much memory it keeps for a process. Another one than glibc's is left as it is."""

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8
"""Options of mallopt, in malloc.h. The second is what MALLOC_ARENA_MAX says when a program begins."""

LARGE_BYTES = 1024 * 1024


def give_back() -> None:
    """Return freed memory to the system, which the allocator would keep for whoever asks next. It takes milliseconds.

    Of 160 MB of weights 20 to 70 came back by themselves; a start leaves a megabyte.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def limit_arenas(most: int) -> None:
    """Let threads share so many arenas from now on."""
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, most)


def return_large_buffers() -> None:
    """Let memory for bodies come from the system and go back to it. By default glibc keeps what was freed once for the
    next, in pieces that the next does not always fit in."""
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)  # setting it also stops glibc from raising it
