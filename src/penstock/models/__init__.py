"""The models. A further model of Penstock's own is one file and its name in BUILT_IN.

Importing this package imports no model, so that the API may use parts of it.
"""

from importlib import import_module
from pathlib import Path

from penstock.core.model import split_id
from penstock.errors import ConfigurationError
from penstock.settings import ModelSettings

BUILT_IN = {"image-scoring-v1": "penstock.models.scoring", "superres-x4": "penstock.models.superres.runner"}
"""The models that are always there, and their modules, which register them."""


def load_runners(settings: ModelSettings, *, in_storage: bool = False) -> list[str]:
    """Import the runners, the operator's own too, and return the names of those to serve.

    Raises ConfigurationError, one line, for a module, file or package that cannot be imported, a class that cannot be
    served, or a name to serve that neither a runner nor a model in the directory has. With `in_storage` it may be that
    of a model in the storage.
    """
    from penstock.models.loading import load_entry_points, load_modules
    from penstock.models.registry import registry
    from penstock.models.repository.tree import scan

    wanted = {split_id(reference)[0]: reference for reference in settings.serve}
    for name in sorted(BUILT_IN.keys() & wanted.keys()) if wanted else BUILT_IN:
        import_module(BUILT_IN[name])
    load_modules(settings.modules)
    load_entry_points()
    known = {**dict.fromkeys(BUILT_IN), **registry()}
    elsewhere = not in_storage and wanted.keys() - known.keys()
    there = {*known, *(one.name for one in scan(Path(settings.directory)).versions.values())} if elsewhere else {*known}
    for name, reference in wanted.items():
        if elsewhere and name not in there:
            names = ", ".join(sorted(there))
            raise ConfigurationError(f"models.serve: there is no model {reference}; known are {names}")
    return sorted(known.keys() & wanted.keys() if wanted else known)
