"""How long the calls of a storage take, as the metric `storage.calls`."""

import time
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from penstock.lazy_import import lazy_import

metrics = lazy_import("penstock.telemetry.metrics")

P = ParamSpec("P")
T = TypeVar("T")

Call = Callable[P, Coroutine[Any, Any, T]]


def timed(operation: str) -> Callable[[Call[P, T]], Call[P, T]]:
    """Decorate a method of a storage: the time of each call, also of one that fails, is counted under this name."""

    def decorate(call: Call[P, T]) -> Call[P, T]:
        @wraps(call)
        async def measured(*args: P.args, **options: P.kwargs) -> T:
            started = time.monotonic()
            try:
                return await call(*args, **options)
            finally:
                metrics.report("storage.calls", time.monotonic() - started, operation=operation)

        return measured

    return decorate
