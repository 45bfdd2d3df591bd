"""The one runner of all models without code: a class for each version, made of its `model.toml`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from math import prod
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec
from loguru import logger
from msgspec.structs import asdict

from penstock.core.device import Device
from penstock.core.model import Member, Model
from penstock.core.request import OutputOptions
from penstock.core.sizes import Sizes
from penstock.errors import ConfigurationError, ModelUnavailable
from penstock.models.base import BaseModelRunner, Card, Outputs, Params, Product, ResultStream, Work
from penstock.models.declared import check, files, opening
from penstock.models.declared.definition import Definition
from penstock.models.declared.document import read_definition
from penstock.models.declared.kinds import kind_of
from penstock.models.declared.kinds.contract import DeclaredKind
from penstock.models.declared.network import FREE, DeclaredNetwork
from penstock.models.declared.settings import params_of
from penstock.models.gate import Comparison, GateParams, gate_bytes
from penstock.models.onnxruntime.shrink import shrink_arena
from penstock.pixels.headers import ImageBounds, probe
from penstock.settings import LimitSettings

if TYPE_CHECKING:
    from numpy.typing import NDArray

EXACT_LANE = "fp32"
"""The lane of work that is run again in fp32."""


class DeclaredRunner(BaseModelRunner[Params]):
    """A version of a model that a `model.toml` describes. `name` is its id, `name@version`."""

    concurrent = True
    definition: ClassVar[Definition]
    folder: ClassVar[Path]
    labels: ClassVar[tuple[str, ...]]
    described_kind: ClassVar[DeclaredKind]
    plain_name: ClassVar[str]
    digest_text: ClassVar[str]

    def __init__(self, limits: LimitSettings) -> None:
        super().__init__(limits)
        self._kind = kind_of(self.definition, self.labels, limits)
        self._network: DeclaredNetwork | None = None
        self._is_half = False
        self._exact: DeclaredNetwork | None = None
        self._opening = Lock()

    @classmethod
    def digest(cls) -> str:
        """The digest of what the definition says and of its files."""
        return cls.digest_text

    @classmethod
    def described(cls) -> Model:
        """The model as a worker publishes it. Nothing is loaded for it."""
        return Model(
            name=cls.plain_name,
            version=cls.card.version,
            digest=cls.digest_text,
            title=cls.card.title,
            licence=cls.card.licence,
            source=cls.card.source,
            produces=cls.card.produces,
            notes=cls.card.notes,
            params=msgspec.json.schema(cls.params),
            inputs=cls.described_kind.members or {"image": Member()},
            sizes=cls.described_kind.sizes,
            guessed=dict(cls.definition.guessed),
            example=check.example(cls.definition, cls.folder),
            versioned=True,
        )

    @classmethod
    def sizes(cls) -> Sizes:
        """What its kind says."""
        return cls.described_kind.sizes

    @classmethod
    def weight_bytes(cls) -> int:
        """How large the file of the model is, with its external data."""
        return files.exact_file(cls.definition, cls.folder).weights_bytes

    def load_model(self, device: Device) -> None:
        """Open the verified file, and run its `[check]`. Any thread may call this, while other models run.

        Raises ConfigurationError in one line where the model cannot be served here; DeviceOutOfMemory where the device
        has no room for it now; DeviceBroken.
        """
        self._device = device
        exact = files.exact_file(self.definition, self.folder)
        self._network = network = opening.opened(exact, self._kind, device)
        try:
            self._look_at(network, device)
            check.run(self)
        except BaseException:
            with suppress(Exception):  # on a device that is lost, nothing can be given back
                self.unload()
            raise

    def _look_at(self, network: DeclaredNetwork, device: Device) -> None:
        # A CPU runs one tile at a time and in fp32, so that there is nothing to compare; a run may take it seconds.
        self._sample = sample = None if device.kind == "cpu" and device.batches == (1,) else self._kind.sample(device)
        if sample is None:  # nobody knows whether tensors of several tasks may be mixed, but who wrote the definition
            self.max_batch = self.definition.run.max_batch or 1
            return
        opening.outputs_of(network, self._kind, sample)
        self._network = network = self._with_half(network, sample, device)
        most = self.definition.run.max_batch or device.batches[-1]
        if most > 1 and opening.mixes(network, self._kind, sample):
            most = 1
            logger.bind(model=self.name).info("the graph takes one input at a time")
        self.max_batch = most if network.batch == FREE else max(1, network.batch)

    def _with_half(self, network: DeclaredNetwork, sample: Work, device: Device) -> DeclaredNetwork:
        twin = files.half_file(self.definition, self.folder)
        if twin is None or "fp32" in (device.precision, self.definition.run.precision):
            return network
        best = opening.best_of(network, twin, self._kind, device, sample)
        self._is_half = best is not network
        return best

    def warmup(self) -> Iterator[Work]:
        """Yield a sample for a GPU where every image has one size, and none for a CPU."""
        if self._device.kind == "cuda" and self._kind.sizes.rule.kilopixels and self._sample is not None:
            yield self._sample

    def memory_needed(self, source: Any, params: Params) -> int:
        """The bytes of what comes in, of its tensor, and of what goes out."""
        return self._kind.memory_needed(source)

    def memory_for(self, source: Any, params: Params, output: OutputOptions) -> int:
        """The same, with what the encoder takes, and what is done with the result."""
        needed = super().memory_for(source, params, output)
        if not isinstance(params, GateParams) or not params.needs_whole:
            return needed
        header = probe(source, ImageBounds.of(self.limits))
        return needed + gate_bytes(params, output, prod(self.output_size(header.width, header.height, params) or (0,)))

    def prepare(self, source: Any, params: Params) -> Work:
        """Make the tensors of an input."""
        work = self._kind.work(source, self._device)
        if work.device_size is not None and isinstance(params, GateParams):
            work.device_size += self.sizes().rule_of(asdict(params)).added_kilopixels
        return work

    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        """Return the outputs of the graph for each tile."""
        return self._kind.run(self._network_of(work), tiles, work)

    def in_fp32(self, work: Work) -> Work | None:
        """Return the same work for the exact file, which is opened again, where its twin in fp16 is used. Raises
        ModelUnavailable."""
        if not self._is_half or work.lane == EXACT_LANE:
            return None
        with self._opening:
            if self._exact is None:
                self._exact = self._opened_again()
        return work.again(EXACT_LANE)

    def _opened_again(self) -> DeclaredNetwork:
        try:
            return opening.opened(files.exact_file(self.definition, self.folder), self._kind, self._device)
        except ConfigurationError as error:
            raise ModelUnavailable(f"the file in fp32 cannot be loaded: {error}") from error

    def stream(self, work: Work, params: Params, output: OutputOptions) -> ResultStream | None:
        """Return the result of a large image that can be written while its tiles come."""
        if isinstance(params, GateParams) and params.needs_whole:
            return None
        return self._kind.stream(work, output)

    def comparison(self, work: Work, params: Params) -> Comparison:
        """Return the image and what the network has made of it."""
        return self._kind.comparison(work)

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        """Return what the outputs mean."""
        return self._kind.product(work, params, output)

    def interrupt(self, work: Work) -> None:
        """Stop the runs of this work at their next node."""
        self._network_of(work).interrupt(work)

    def unload(self) -> None:
        """Give the memory of the model back. No run may be going on, and none may follow."""
        for network in filter(None, (self._network, self._exact)):
            network.close()
        if self._network is not None:
            self._network = self._exact = None
            shrink_arena(self._device)

    @property
    def device_name(self) -> str:
        """The device that it was loaded for."""
        return self._device.name

    def _network_of(self, work: Work) -> DeclaredNetwork:
        network = self._exact if work.lane == EXACT_LANE else self._network
        assert network is not None  # noqa: S101  loaded, and not unloaded
        return network


def declared_runner(folder: Path, *, name: str | None = None, version: str | None = None) -> type[DeclaredRunner]:
    """The runner of the model in a folder, made without the runtime and without its ONNX file. `name` and `version` are
    those of the repository: by default the name of the parent folder, and what `model.toml` says.

    Raises ConfigurationError, one line, where the definition cannot be served.
    """
    definition = read_definition(folder)
    plain_name, its_version = name or folder.resolve().parent.name, version or str(definition.version)
    labels = files.labels_of(definition, folder)
    kind = kind_of(definition, labels, LimitSettings())
    card = Card(
        title=definition.title or plain_name,
        version=its_version,
        licence=definition.licence,
        source=definition.source,
        produces=kind.produces,
        notes={"kind": definition.kind} | ({"labels": len(labels)} if labels else {}),
    )
    members = {
        "name": f"{plain_name}@{its_version}",
        "plain_name": plain_name,
        "definition": definition,
        "folder": folder,
        "labels": labels,
        "described_kind": kind,
        "card": card,
        "params": params_of(definition, kind.settings, kind.base_params),
        "inputs": kind.members,
        "digest_text": files.digest_of(definition, folder),
    }
    return type("DeclaredModel", (DeclaredRunner,), members)
