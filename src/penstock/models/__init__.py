"""The models. A further model of Penstock's own is one file and its name in BUILT_IN.

Importing this package imports no model, so that the API may use `imaging` alone.
"""

from importlib import import_module

from penstock.errors import ConfigurationError
from penstock.settings import ModelSettings

BUILT_IN = ("penstock.models.scoring", "penstock.models.superres")
"""Modules of the models that are always there; they register themselves."""


def load_runners(settings: ModelSettings) -> list[str]:
    """Import the runners, the operator's own too, and return the names of the models to serve.

    Raises ConfigurationError, one line, for a module, file or package that cannot be imported, a class that cannot be
    served, or a name that no runner has.
    """
    from penstock.models.loading import load_entry_points, load_modules
    from penstock.models.registry import registry

    for module in BUILT_IN:
        import_module(module)
    load_modules(settings.modules)
    load_entry_points()
    known = registry()
    for name in settings.serve:
        if name not in known:
            raise ConfigurationError(f"models.serve: there is no model {name}; known are {', '.join(sorted(known))}")
    return sorted(settings.serve or known)
