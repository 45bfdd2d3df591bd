"""Python's garbage collector while a process starts, and after that.

A start makes a hundred thousand objects, nearly all of which stay. A collection of the oldest generation looks at all
of them: several during a start, 8 % of its time, and then now and again for as long as the process runs, each for 30 ms
and more in which no request goes on.
"""

import gc

USUAL = gc.get_threshold()
"""How many objects more, and how many collections of the generation before, lead to the next of each generation."""

NEVER = 1_000_000


def begin_start() -> None:
    """Collect the young generations alone until `end_start`: what is left of no use is among them."""
    gc.set_threshold(*USUAL[:2], NEVER)


def end_start() -> None:
    """Collect as usual again, and leave out for ever what is there."""
    gc.freeze()
    gc.set_threshold(*USUAL)
