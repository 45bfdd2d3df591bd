"""The model noop-v1, which does nothing, so that a benchmark measures the server itself.

Not served by default: `PENSTOCK_MODELS_MODULES=penstock.models.noop`, as `penstock bench --model noop-v1` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.core.request import OutputOptions
from penstock.lazy_import import lazy_import
from penstock.models.base import BaseModelRunner, Card, Params, Product, Work, model_runner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


@model_runner("noop-v1")
class Noop(BaseModelRunner[Params]):
    """Takes any input without looking at it and answers `{"ok": true}`."""

    card = Card(title="No operation", licence="MIT", source="Penstock", produces="data")
    concurrent = True

    def prepare(self, source: bytes, params: Params) -> Work:
        """Return one tile of one number."""
        return Work([np.zeros(1, np.float32)])

    def infer(self, tiles: NDArray[Any], work: Work) -> Sequence[Any]:
        """Return what came in."""
        return list(tiles)

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        return Product(data={"ok": True})
