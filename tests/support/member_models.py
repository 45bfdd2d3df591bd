"""Models that take more than one image, and return what they were given.

Penstock loads them through `PENSTOCK_MODELS_MODULES=tests.support.member_models`.
"""

import hashlib
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from penstock.core.model import Member
from penstock.core.request import OutputOptions
from penstock.models.base import BaseModelRunner, Card, Device, Outputs, Params, Product, Work, model_runner
from penstock.models.members import InputFile

SPEECH = "speech-v1"
MASKED = "masked-v1"
ANYTHING = "anything-v1"


class Strength(Params, frozen=True):
    """A parameter beside the members."""

    strength: float = 1.0


class Echo(BaseModelRunner[Strength]):
    """Returns for each file its type, name, size and digest, and JSON as it came."""

    params = Strength
    card = Card(title="Says what it was given", produces="data")

    def load_model(self, device: Device) -> None:
        pass

    def prepare(self, source: Any, params: Strength) -> Work:
        seen = {name: shown(value) for name, value in source.items()}
        return Work([np.zeros((1, 1), np.float32)], context={"members": seen, "strength": params.strength})

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        return [0] * len(tiles)

    def postprocess(self, work: Work, params: Strength, output: OutputOptions) -> Product:
        return Product(data=work.context)


def shown(value: Any) -> Any:
    """Returns what the result says of a member."""
    if not isinstance(value, InputFile):
        return {"value": value}
    of = {"type": value.content_type, "name": value.name, "size": len(value)}
    if value.content_type.startswith("image/"):
        of["pixels"] = list(value.image().rgb.shape[:2])
    return of | {"sha256": hashlib.sha256(value).hexdigest()}


@model_runner(SPEECH)
class Speech(Echo):
    """An audio file and a text; perhaps options."""

    inputs: ClassVar = {
        "audio": Member(kind="file", media_types=("audio/*",), description="what is said"),
        "text": Member(kind="json", schema={"type": "string", "minLength": 1, "maxLength": 200_000}),
        "options": Member(
            kind="json",
            required=False,
            schema={
                "type": "object",
                "properties": {"words": {"type": "array", "items": {"type": ["string", "null"]}}},
                "additionalProperties": {"type": ["number", "null"]},
            },
        ),
    }


@model_runner(MASKED)
class Masked(Echo):
    """An image and a mask."""

    inputs: ClassVar = {"image": Member(), "mask": Member(description="white where to paint")}


@model_runner(ANYTHING)
class Anything(Echo):
    """Up to three files of any kind, and any JSON."""

    inputs: ClassVar = {
        "first": Member(kind="file", required=False),
        "second": Member(kind="file", required=False),
        "third": Member(kind="file", required=False),
        "json": Member(kind="json", required=False),
    }
