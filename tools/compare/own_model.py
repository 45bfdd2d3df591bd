"""The classifier as a model of Penstock: the code of the other servers, in the methods of a runner."""

import os
from collections.abc import Sequence
from typing import Any

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.models.base import BaseModelRunner, Card, Params, Product, Work, model_runner
from tools.compare.peers.work import Classifier


@model_runner("classifier-v1")
class OwnClassifier(BaseModelRunner[Params]):
    """Answers with the likeliest of ten classes that mean nothing."""

    card = Card(title="Classifier", source="tools/compare", produces="data")

    def load_model(self, device: Device) -> None:
        """Load the network."""
        self._classifier = Classifier(os.environ["PEER_NETWORK"])

    def prepare(self, source: bytes, params: Params) -> Work:
        """Decode the photo."""
        return Work([self._classifier.decode(source)])

    def infer(self, tiles: Any, work: Work) -> Sequence[Any]:
        """Run the network."""
        return list(self._classifier.run(tiles))

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        """Encode the answer."""
        return Product(data=self._classifier.encode(work.outputs[0]))
