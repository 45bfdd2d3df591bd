"""The digest of the results of a runner: of its version, and of the source and the files of one that is not ours."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from penstock.errors import ConfigurationError


@cache
def results_digest(runner: type[Any]) -> str:
    """A text that changes whenever the runner may give other results for the same input.

    It is the runner's own `digest`, and for a runner that is not Penstock's (which has a version) the sha256 of its
    source and of its `files` too. The source is the module that defines it and those of its base classes, with all
    modules beside them in a package, else with those beside them that were imported. It is read once: whoever edits a
    model must restart the workers, as `--reload` does.

    Raises ConfigurationError when one of its files cannot be read.
    """
    own: str = runner.digest()
    sources = sorted({path for base in runner.__mro__ for path in _sources(base)})
    if not sources:
        return own
    whole = hashlib.sha256()
    for content in (*(path.read_bytes() for path in sources), *(contents_of(runner, name) for name in runner.files)):
        whole.update(hashlib.sha256(content).digest())
    return f"{own} {whole.hexdigest()}"


def _sources(cls: type) -> Iterable[Path]:
    """The files with the code of a class; none for Penstock's own and the standard library's."""
    module = sys.modules[cls.__module__]
    file = getattr(module, "__file__", None)
    if file is None or cls.__module__.split(".")[0] in {"penstock", *sys.stdlib_module_names}:
        return ()
    folder = Path(file).parent
    if module.__package__:
        return folder.rglob("*.py")
    loaded = [Path(found) for one in list(sys.modules.values()) if (found := getattr(one, "__file__", None))]
    return [path for path in loaded if path.parent == folder and path.suffix == ".py"]


def contents_of(runner: type[Any], name: str) -> bytes:
    """The contents of a file in the folder of the module of a runner class. Raises ConfigurationError when it cannot be
    read."""
    path = Path(str(sys.modules[runner.__module__].__file__)).parent / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{runner.name}: cannot read its file {path}: {error.strerror}") from error
