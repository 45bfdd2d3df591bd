"""Python's garbage collector while a process starts, and after that.

A start makes a hundred thousand objects, nearly all of which stay. A collection of the oldest generation looks at all
of them: several during a start, 8 % of its time, and then now and again for as long as the process runs, each for 30 ms
and more in which no request goes on.
"""

import gc

USUAL = gc.get_threshold()
"""How many objects more, and how many collections of the generation before, lead to the next one of each generation."""

NEVER = 1_000_000
"""So many collections of the middle generation no start takes."""


def begin_start() -> None:
    """Collect the young generations alone until `end_start`."""
    # Without any collection, an import leaves 50,000 objects of no use, half of all: one look at everything, later,
    # would have to find them. The young generations hold all but a few hundred of these.
    gc.set_threshold(*USUAL[:2], NEVER)


def end_start() -> None:
    """Collect as usual again, and leave out for ever what is there.

    What is frozen is still freed when nothing refers to it any more. Only a circle of such objects stays.
    """
    gc.freeze()
    gc.set_threshold(*USUAL)
