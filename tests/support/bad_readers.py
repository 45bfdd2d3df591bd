"""`python -m tools.fuzz` on readers that each have another fault: `python -m tests.support.bad_readers --runs 300`."""

import os
import sys

from tools.fuzz import __main__ as fuzz
from tools.fuzz import table, watch
from tools.fuzz.target import ACCEPTED, Target

KEPT: list[bytearray] = []
"""What the reader that leaks has read."""


def raises(data: bytes) -> str:
    return "refused" if b"a" in data else str({b"": ACCEPTED}.get(data[:1]) or {98: ACCEPTED}[data[0]])


def disagrees(data: bytes) -> str:
    assert len(data) < 4, "it says another size"
    return ACCEPTED if data else "refused"


def crashes(data: bytes) -> str:
    if b"!" in data:
        os.abort()
    return ACCEPTED


def hangs(data: bytes) -> str:
    while b"!" in data:
        pass
    return ACCEPTED


def hangs_in_c(data: bytes) -> str:
    return ACCEPTED if b"!" not in data else str(sum(range(10**12)))


def takes_memory(data: bytes) -> str:
    return ACCEPTED if b"!" not in data else str(len(bytearray(b"x") * (44 * watch.MIB)))


def leaks(data: bytes) -> str:
    KEPT.append(bytearray(b"x") * (watch.MIB // 2))
    return ACCEPTED if data else "refused"


def accepts_all(_: bytes) -> str:
    return ACCEPTED


def right(data: bytes) -> str:
    return ACCEPTED if data[:1] == b"b" else "refused"


READERS = (raises, disagrees, crashes, hangs, hangs_in_c, takes_memory, leaks, accepts_all, right)

if __name__ == "__main__":
    watch.CPU_S, watch.KILLED_AFTER_S = 0.2, 0.4
    watch.MOST_RUN_BYTES, watch.MOST_GROWTH_BYTES = 16 * watch.MIB, 16 * watch.MIB
    table.TARGETS = tuple(Target(one.__name__, one, lambda: (b"bc", b"b"), (b"!", b"a", b"bcdef")) for one in READERS)
    sys.exit(fuzz.main())
