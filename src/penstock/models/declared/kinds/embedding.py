"""image-to-embedding: a vector that is near those of similar images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock.core.request import OutputOptions
from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.base import Work
from penstock.models.declared.kinds.contract import KindAnswer, finite, value_of
from penstock.models.declared.kinds.one_image import OneImage, first_output
from penstock.models.declared.kinds.packing import NPY, npy
from penstock.models.declared.settings import Setting

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


class ImageToEmbedding(OneImage):
    """Answers `embedding`, a list of numbers, and its `dimensions`; or a `.npy` file of float32 and its dimensions."""

    produces = "any"

    @property
    def settings(self) -> dict[str, Setting]:
        """In which form the vector comes."""
        description = "A list in the data of the result, or a file of NumPy."
        chosen = self.definition.output.format
        return {"format": Setting(default=chosen, values=("json", "npy"), description=description)}

    def answer(self, work: Work, params: Any, output: OutputOptions) -> KindAnswer:
        """The vector; of length 1 where the definition says so."""
        vector = finite(self._vector(first_output(work))).astype(np.float32)
        if self.definition.output.normalised:
            length = float(np.linalg.norm(vector))
            if length == 0:
                raise InvalidOutput("the model gave a vector of length 0")
            vector = vector / np.float32(length)
        dimensions = {"dimensions": len(vector)}
        if value_of(params, "format", self.definition.output.format) == "json":
            return KindAnswer({"embedding": vector.tolist(), **dimensions})
        return KindAnswer(dimensions, npy(vector), NPY, "npy")

    def _vector(self, output: NDArray[Any]) -> NDArray[Any]:
        pool = self.definition.output.pool
        if output.ndim < 2 or pool == "none":
            return output.ravel()
        several = output.reshape(-1, output.shape[-1]).astype(np.float32)
        mean: NDArray[Any] = several.mean(axis=0)
        return several[0] if pool == "first" else mean
