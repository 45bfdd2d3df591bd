"""The former name of `penstock.models`, for models that were written with it; importing it warns."""

import sys
import warnings

from penstock.models import base, load_runners, scoring, superres, tiling
from penstock.models.base import BaseModelRunner, model_runner, registry

__all__ = ["BaseModelRunner", "base", "load_runners", "model_runner", "registry", "scoring", "superres", "tiling"]

warnings.warn("penstock.runners is called penstock.models now", DeprecationWarning, stacklevel=2)

for _module in (base, scoring, superres, tiling):
    sys.modules[_module.__name__.replace("penstock.models", __name__)] = _module
