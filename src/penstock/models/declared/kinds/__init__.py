"""What the outputs of each kind of model mean, and the table of kinds."""

from penstock.models.declared.definition import Definition
from penstock.models.declared.kinds.arrays import ImageToTensors
from penstock.models.declared.kinds.boxes import ImageToBoxes
from penstock.models.declared.kinds.contract import DeclaredKind
from penstock.models.declared.kinds.embedding import ImageToEmbedding
from penstock.models.declared.kinds.image import ImageToImage
from penstock.models.declared.kinds.labels import ImageToLabels, ImageToScores
from penstock.models.declared.kinds.mask import ImageToMask
from penstock.models.declared.kinds.tensors import TensorsToTensors
from penstock.settings import LimitSettings

KINDS: dict[str, type[DeclaredKind]] = {
    "image-to-image": ImageToImage,
    "image-to-mask": ImageToMask,
    "image-to-labels": ImageToLabels,
    "image-to-scores": ImageToScores,
    "image-to-embedding": ImageToEmbedding,
    "image-to-boxes": ImageToBoxes,
    "image-to-tensors": ImageToTensors,
    "tensors": TensorsToTensors,
}


def kind_of(definition: Definition, labels: tuple[str, ...], limits: LimitSettings) -> DeclaredKind:
    """The kind of a definition, with the names of its classes and the operator's limits."""
    return KINDS[definition.kind](definition, labels, limits)
