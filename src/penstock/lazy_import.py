"""Libraries that are imported at their first use: the API checks images and never computes with their pixels, and most
processes never fetch a URL. What a process does not load costs it neither memory nor time to start."""

import asyncio
import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Deferred(ModuleType):
    """Stands for a module; asked for a name for the first time, it takes it from there. Any thread may be the first."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(import_module(self.__name__), name)
        setattr(self, name, found)
        return found


def deferred(module: str) -> Any:
    """Stands for the module of this name in annotations that are not evaluated, and in the bodies of functions."""
    return _Deferred(module)


async def load(module: str) -> None:
    """Import it now, in a thread, so that the loop goes on meanwhile."""
    if module not in sys.modules:
        await asyncio.to_thread(import_module, module)
