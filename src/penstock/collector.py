"""Python's garbage collector while a process starts, and after that.

A start makes a hundred thousand objects, nearly all of which stay. The collector would look at all of them several
times meanwhile, which takes 8 % of a start, and now and then for as long as the process runs: 50 ms of a busy machine
in which no request goes on.
"""

import gc
from threading import Timer

TIDY_AFTER_S = 10.0
"""When a server looks once at all that its start has left: by then it has answered whoever waited for the start."""


def pause() -> None:
    """Collect nothing until `resume` or `settle`: what is imported meanwhile stays."""
    gc.disable()


def resume() -> None:
    """Collect again, and leave out what is there."""
    gc.freeze()
    gc.enable()


def settle() -> None:
    """Resume in a server: what its start has left of no use is collected once, after TIDY_AFTER_S."""
    resume()
    timer = Timer(TIDY_AFTER_S, _tidy)
    timer.daemon = True
    timer.start()


def _tidy() -> None:
    gc.unfreeze()
    gc.collect()
    gc.freeze()
