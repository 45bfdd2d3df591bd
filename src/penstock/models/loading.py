"""Finds the operator's own runners: modules by name, files and folders by path, and installed packages."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.machinery import SourceFileLoader
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from loguru import logger

from penstock.errors import ConfigurationError
from penstock.models.base import BaseModelRunner
from penstock.models.registry import registry
from penstock.models.tracebacks import cause_of

ENTRY_POINTS = "penstock.models"
"""Group of the entry points by which an installed package brings models: their values are modules or classes."""

NO_MODELS = ("_", ".", "test_", "conftest")
"""Beginnings of names of files in a folder of models that are not imported."""


def load_modules(references: tuple[str, ...]) -> None:
    """Import modules by name, `.py` files by path, and all such files of a folder.

    Raises ConfigurationError, one line with the file and line at fault, when one cannot be imported; its traceback is
    logged at debug.
    """
    for reference in references:
        try:
            modules_of(reference)
        except ConfigurationError as error:
            raise ConfigurationError(f"models.modules: {error}") from error


def load_entry_points() -> None:
    """Import the models of installed packages. Raises ConfigurationError as `load_modules` does."""
    from importlib.metadata import entry_points

    for point in entry_points(group=ENTRY_POINTS):
        package = point.dist.name if point.dist else "a package"
        with _one_line(f"the entry point {point.name} of {package}", folder=None):
            point.load()


def runner_of(reference: str) -> type[BaseModelRunner[Any]]:
    """The runner of a reference such as `my_models.py:Sharpness`, `my_models:sharpness-v1`, or `my_models.py` where the
    file has one model alone.

    Raises ConfigurationError when there is none, or several.
    """
    place, _, wanted = reference.partition(":")
    names = {module.__name__ for module in modules_of(place)}
    found = {name: runner for name, runner in registry().items() if runner.__module__ in names}
    chosen = [runner for name, runner in found.items() if wanted in ("", name, runner.__name__)]
    if len(chosen) == 1:
        return chosen[0]
    known = ", ".join(f"{place}:{runner.__name__}" for runner in found.values())
    if not known:
        raise ConfigurationError(f'{place} has no model: write @model_runner("a-name") above a class')
    raise ConfigurationError(f"{place} has no model {wanted}; it has {known}" if wanted else f"name one of {known}")


def is_path(reference: str) -> bool:
    """Whether a reference is the path of a file or folder, not the name of a module."""
    return reference.endswith(".py") or "/" in reference


def files_of(reference: str) -> list[Path]:
    """The files that a path stands for: itself, or the files with models in a folder.

    Raises ConfigurationError when nothing is there.
    """
    path = Path(reference).expanduser().absolute()
    if path.is_dir():
        return [file for file in sorted(path.glob("*.py")) if not file.name.startswith(NO_MODELS)]
    if not path.is_file():
        raise ConfigurationError(f"there is no file {path}")
    return [path]


def modules_of(reference: str) -> list[ModuleType]:
    """Import the modules of a reference, or return them where they were imported before. Raises ConfigurationError as
    `load_modules` does."""
    if is_path(reference):
        return [_imported_file(path) for path in files_of(reference)]
    with _one_line(reference, folder=None):
        return [import_module(reference)]


class _UncachedLoader(SourceFileLoader):
    """Compiles the source each time: Python takes the compiled form of an edit within one second for the new one when
    both have as many characters."""

    def path_stats(self, path: Any) -> Any:
        raise OSError(f"{path} has no compiled form")


def _imported_file(path: Path) -> ModuleType:
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = spec_from_file_location(name, path, loader=_UncachedLoader(name, str(path)))
    assert spec is not None  # noqa: S101  a loader was given
    assert spec.loader is not None  # noqa: S101
    module = sys.modules[name] = module_from_spec(spec)
    try:
        with _one_line(str(path), folder=path.parent), _importable(path.parent):
            spec.loader.exec_module(module)
    except ConfigurationError:
        del sys.modules[name]
        raise
    return module


def _module_name(path: Path) -> str:
    """The stem, so that `import my_models` elsewhere is the same module; where that is the name of another module, a
    name of its own."""
    if path.stem.isidentifier():
        before = sys.modules.get(path.stem)
        origin = getattr(before, "__file__", "") if before else getattr(find_spec(path.stem), "origin", str(path))
        if origin == str(path):
            return path.stem
    return f"{re.sub(r'[^A-Za-z0-9]', '_', path.stem)}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """From now on modules of this folder can be imported, as from a script in it; they hide those of installed packages
    and none of Python's own."""
    if str(folder) not in sys.path:
        at = next((n for n, entry in enumerate(sys.path) if "site-packages" in entry), len(sys.path))
        sys.path.insert(at, str(folder))
    yield


@contextmanager
def _one_line(what: str, *, folder: Path | None) -> Iterator[None]:
    """Raise what an import raises as a ConfigurationError of one line, with the place in `folder` if it has one."""
    try:
        yield
    except ConfigurationError:
        raise
    except (Exception, SystemExit) as error:
        logger.opt(exception=error).debug("import failed")
        raise ConfigurationError(f"cannot import {what}: {cause_of(error, folder)}") from error
