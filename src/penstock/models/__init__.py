"""The models. Importing this package fills the registry; a further model is one file and one line here."""

from importlib import import_module

from penstock.errors import ConfigurationError
from penstock.models import scoring, superres  # noqa: F401  they register themselves
from penstock.models.registry import registry
from penstock.settings import ModelSettings


def load_runners(settings: ModelSettings) -> list[str]:
    """Import the operator's own runner modules too, and return the names of the models to serve.

    Raises ConfigurationError for a module that cannot be imported, or a name that no runner has.
    """
    for module in settings.modules:
        try:
            import_module(module)
        except ImportError as error:
            raise ConfigurationError(f"models.modules: cannot import {module}: {error}") from error
    known = registry()
    for name in settings.serve:
        if name not in known:
            raise ConfigurationError(f"models.serve: there is no model {name}; known are {', '.join(sorted(known))}")
    return sorted(settings.serve or known)
