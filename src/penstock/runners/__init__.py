"""The former name of `penstock.models`, for models that were written with it; importing it warns."""

import sys
import warnings

from penstock.models import base, load_runners, scoring, superres, tiling
from penstock.models.base import BaseModelRunner, model_runner, registry
from penstock.models.onnxruntime import precision
from penstock.models.onnxruntime import session as onnx

__all__ = [
    "BaseModelRunner",
    "base",
    "load_runners",
    "model_runner",
    "onnx",
    "precision",
    "registry",
    "scoring",
    "superres",
    "tiling",
]

warnings.warn("penstock.runners is called penstock.models now", DeprecationWarning, stacklevel=2)

for _name in ("base", "onnx", "precision", "scoring", "superres", "tiling"):
    sys.modules[f"{__name__}.{_name}"] = globals()[_name]
