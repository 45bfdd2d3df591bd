"""Modules that are imported at their first use.

The API checks images and never computes with their pixels, and most processes never fetch a URL. A module that a
process does not load costs it neither memory nor time to start.
"""

import asyncio
import sys
from importlib import import_module
from importlib.util import find_spec
from types import ModuleType
from typing import Any


class _LazyModule(ModuleType):
    """A stand-in that imports its module when an attribute is read, and keeps the attribute. Threads may share it."""

    def __getattr__(self, name: str) -> Any:
        attribute = getattr(import_module(self.__name__), name)
        setattr(self, name, attribute)
        return attribute


def lazy_import(module: str) -> Any:
    """A stand-in for the module of this name.

    It serves the bodies of functions, and annotations that are not evaluated; reading an attribute while the importing
    module is loaded would import it at once.
    """
    return _LazyModule(module)


class _PostponedModule(ModuleType):
    """Stands in `sys.modules` for a module until an attribute of it is read."""

    def __getattr__(self, name: str) -> Any:
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(import_module(self.__name__), name)


def postpone(module: str) -> None:
    """From now on, who imports this module imports it with the first attribute that is read: for what a library
    imports and needs for little of what it does. A module that is not installed stays missing."""
    # Python's own LazyLoader does not serve here: the statement `import` reads `__spec__`, with which it loads.
    if module not in sys.modules and find_spec(module) is not None:
        sys.modules[module] = _PostponedModule(module)


async def load(module: str) -> None:
    """Import the module in a thread, so that the event loop goes on; return at once when it is imported already."""
    if module not in sys.modules:
        await asyncio.to_thread(import_module, module)
