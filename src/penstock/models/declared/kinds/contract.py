"""What a kind of model has to say: its inputs, its parameters, and how a task is prepared and answered."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from penstock.core.device import Device
from penstock.core.model import Member, Produces
from penstock.core.request import OutputOptions
from penstock.core.sizes import Sizes
from penstock.errors import InvalidOutput
from penstock.lazy_import import lazy_import
from penstock.models.base import Params, Product, ResultStream, Work
from penstock.models.declared.definition import Definition
from penstock.models.declared.network import Arrays, DeclaredNetwork
from penstock.models.declared.settings import Setting
from penstock.models.gate import Comparison
from penstock.models.onnxruntime.network import Inputs
from penstock.models.onnxruntime.ports import Ports
from penstock.settings import LimitSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


class KindAnswer(NamedTuple):
    """What a kind makes of the outputs: data, a file, or both."""

    data: dict[str, Any]
    file: bytes | None = None
    content_type: str = ""
    extension: str = ""
    width: int | None = None
    height: int | None = None


class DeclaredKind(ABC):
    """One kind of model, for one definition. Any thread may call its methods. `produces` is what its results are."""

    produces: ClassVar[Produces]
    base_params: ClassVar[type[Params]] = Params
    """The class of the parameters that every definition of this kind has."""

    def __init__(self, definition: Definition, labels: tuple[str, ...], limits: LimitSettings) -> None:
        self.definition = definition
        self.labels = labels
        self.limits = limits

    @property
    def members(self) -> dict[str, Member]:
        """The members of its input where that is not one image."""
        return {}

    @property
    def settings(self) -> dict[str, Setting]:
        """The parameters that clients may set, unless the definition narrows them."""
        return {}

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of the graph's outputs that it reads; an empty name is the first one, and none are all."""
        return (self.definition.output.name,)

    @property
    def sizes(self) -> Sizes:
        """How large its results are, and how much the device computes for them."""
        return Sizes()

    @abstractmethod
    def check_ports(self, ports: Ports) -> None:
        """Compare the definition with the graph. Raises ConfigurationError where it does not fit."""

    @abstractmethod
    def memory_needed(self, source: Any) -> int:
        """The bytes that a task needs for what comes in and goes out."""

    def sample(self, device: Device) -> Work | None:
        """Work that every such network can do, to look at what it gives; None where there is none."""
        return None

    @abstractmethod
    def work(self, source: Any, device: Device) -> Work:
        """What is to be run for an input."""

    @abstractmethod
    def feeds(self, tiles: NDArray[Any], work: Work) -> Inputs:
        """The inputs of the graph for a batch of tiles, each with a leading axis for the tiles."""

    @abstractmethod
    def batch(self, ports: Ports) -> int:
        """How many tiles the graph takes at a time: a number, FREE or NONE."""

    def run(self, network: DeclaredNetwork, tiles: NDArray[Any], work: Work) -> list[Arrays]:
        """Run a batch of tiles, and return the outputs for each."""
        return network.run(self.feeds(tiles, work), work)

    @abstractmethod
    def answer(self, work: Work, params: Any, output: OutputOptions) -> KindAnswer:
        """What the outputs of a work that has run mean. Raises InvalidOutput where they can mean nothing."""

    def product(self, work: Work, params: Any, output: OutputOptions) -> Product:
        """The answer as a result."""
        return self.as_product(self.answer(work, params, output))

    def stream(self, work: Work, output: OutputOptions) -> ResultStream | None:
        """The answer where its file can be written while outputs come; None where `product` makes it."""
        return None

    def comparison(self, work: Work) -> Comparison:
        """The image and what the network has made of it, for a kind whose parameters are GateParams."""
        raise NotImplementedError

    def as_product(self, said: KindAnswer) -> Product:
        """An answer as a result, which says which members of the definition are guesses."""
        guessed = {"guessed": sorted(self.definition.guessed)} if self.definition.guessed else {}
        return Product(
            data=(said.data | guessed) or None,
            file=said.file,
            content_type=said.content_type or "application/octet-stream",
            extension=said.extension or "bin",
            width=said.width,
            height=said.height,
        )


def finite(array: NDArray[Any]) -> NDArray[Any]:
    """The same array. Raises InvalidOutput when one of its values is no number."""
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InvalidOutput("the model gave values that are not numbers")
    return array


def value_of(params: Any, name: str, otherwise: Any) -> Any:
    """A parameter, or what the definition says where clients may not set it."""
    return getattr(params, name, otherwise)
