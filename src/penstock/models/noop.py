"""The model noop-v1, which does nothing, so that a benchmark measures the server itself. Even its tile is nothing.

Not served by default: `PENSTOCK_MODELS_MODULES=penstock.models.noop`, as `penstock bench --model noop-v1` does.
"""

from typing import Any

from penstock.core.request import OutputOptions
from penstock.models.base import BaseModelRunner, Card, Params, Product, Work, model_runner


@model_runner("noop-v1")
class Noop(BaseModelRunner[Params]):
    """Takes any input without looking at it and answers `{"ok": true}`.

    Its tile is no array, so that a worker that is measured with it needs no numpy.
    """

    card = Card(title="No operation", licence="MIT", source="Penstock", produces="data")
    concurrent = True
    one_at_a_time = True

    def prepare(self, source: bytes, params: Params) -> Work:
        """Return one tile, which is nothing."""
        return Work([None])  # type: ignore[list-item]

    def infer(self, tiles: list[Any], work: Work) -> list[Any]:
        """Return what came in."""
        return tiles

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        """Return that it went well."""
        return Product(data={"ok": True})
