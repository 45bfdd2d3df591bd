"""Models that take sound or a text, give several files, and raise; and one that says nothing of what it gives."""

import json
import logging
from typing import Any, ClassVar

from penstock.core.model import Member
from penstock.models.base import BaseModelRunner, Card, Product, ProductFile
from penstock.models.members import InputMembers
from penstock.models.registry import model_runner

logger = logging.getLogger(__name__)

TEXT = {"type": "string"}


class _NoDevice(BaseModelRunner):
    def prepare(self, input_data: InputMembers) -> InputMembers:
        return input_data

    def infer(self, tensor: InputMembers) -> InputMembers:
        return tensor


@model_runner("voices")
class Voices(_NoDevice):
    """Gives a recording back twice, with a transcript of what was asked. The text `raise` raises."""

    inputs: ClassVar = {
        "audio": Member(kind="file", media_types=("audio/*",)),
        "text": Member(kind="json", required=False, schema=TEXT, description="what to say"),
    }
    card = Card(title="Voices")

    def postprocess(self, output: InputMembers) -> Product:
        text = output.get("text", "")
        logger.warning("asked to say %s", text)
        if text == "raise":
            raise ArithmeticError("the secret of the model")
        files = [ProductFile(f"{side}.wav", output["audio"], "audio/wav") for side in ("left", "right")]
        told = {"text": text, "name": output["audio"].name}
        files.append(ProductFile("told.json", json.dumps(told).encode(), "application/json"))
        return Product(files=files, data=told)


@model_runner("echo")
class Echo(_NoDevice):
    """Gives a text back as a file of text."""

    inputs: ClassVar = {"text": Member(kind="json", schema=TEXT)}
    card = Card(title="Echo")

    def postprocess(self, output: Any) -> Product:
        return Product(file=output["text"].encode(), content_type="text/plain")


@model_runner("table")
class Table(BaseModelRunner):
    def prepare(self, input_data: InputMembers) -> None: ...

    def infer(self, tensor: None) -> None: ...

    def postprocess(self, output: None) -> Product:
        return Product(file=b"a,b", content_type="text/csv; charset=utf-8", extension="csv")
