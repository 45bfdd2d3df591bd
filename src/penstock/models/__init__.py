"""The models. Importing this package fills the registry; a further model is one file and one line here."""

from penstock.errors import ConfigurationError
from penstock.models import scoring, superres  # noqa: F401  they register themselves
from penstock.models.loading import load_entry_points, load_modules
from penstock.models.registry import registry
from penstock.settings import ModelSettings


def load_runners(settings: ModelSettings) -> list[str]:
    """Import the operator's own runners too, and return the names of the models to serve.

    Raises ConfigurationError, one line, for a module, file or package that cannot be imported, a class that cannot be
    served, or a name that no runner has.
    """
    load_modules(settings.modules)
    load_entry_points()
    known = registry()
    for name in settings.serve:
        if name not in known:
            raise ConfigurationError(f"models.serve: there is no model {name}; known are {', '.join(sorted(known))}")
    return sorted(settings.serve or known)
