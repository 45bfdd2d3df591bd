"""The full runner contract: what a model may define. `penstock.models.short` has the short one.

    @model_runner("invert")
    class Invert(BaseModelRunner[Params]):
        def load_model(self, device): ...            device thread, once in a process
        def prepare(self, source, params): ...       a codec thread: bytes -> Work
        def infer(self, tiles, work): ...            a device thread: (n, ...) -> n outputs
        def postprocess(self, work, params, output)  a codec thread: Work with its outputs -> Product

Work is a number of tiles of one shape. Tiles of all tasks in flight that have the same runner, lane and shape may
meet in one `infer`; a runner that does not cut its input has one tile.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar, Union

from msgspec import Struct, field
from msgspec.structs import asdict

from penstock.core.device import Device
from penstock.core.model import Example, Produces
from penstock.core.request import Bits, OutputOptions
from penstock.core.sizes import Sizes
from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.models import products
from penstock.models.digests import contents_of
from penstock.models.digests import results_digest as results_digest
from penstock.models.members import AcceptTruncated as AcceptTruncated
from penstock.models.members import Inputs, bounds_for, size_of
from penstock.pixels.formats import encoder_bytes
from penstock.pixels.headers import probe
from penstock.pixels.notes import Note
from penstock.pixels.picture import Picture
from penstock.settings import LimitSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

decoding = lazy_import("penstock.pixels.decoding")


class Params(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base class of a model's parameters, and the parameters of a model that has none."""


Product = products.Product
ProductFile = products.ProductFile
ResultStream = products.ResultStream

ParamsT = TypeVar("ParamsT", bound=Params)
RunnerT = TypeVar("RunnerT", bound="BaseModelRunner[Any]")

FORMER_NAMES = {"rehearsal": "warmup", "footprint": "memory_needed", "recut": "split_smaller"}
"""Methods that a class may still define under its former name, with a DeprecationWarning: otherwise a model that was
written for it would lose what it says about itself without a word."""


def _take_former_names(cls: type) -> None:
    for former, name in FORMER_NAMES.items():
        if former in vars(cls):
            warnings.warn(f"{cls.__name__}.{former} is called {name} now", DeprecationWarning, stacklevel=3)
            setattr(cls, name, vars(cls)[former])
        elif name in vars(cls):
            setattr(cls, former, vars(cls)[name])  # a method of a subclass may call that of its base by the former name


Outputs = Union[Sequence[Any], "NDArray[Any]"]
"""What `infer` returns: one output for each tile of the batch."""


class Work:
    """The prepared input of one task.

    Tiles of several tasks run in one batch if they have the same runner, `lane` and shape; a runner with several
    networks names the network as the lane. `context` is for the runner's own use. `device_size` is what the runner's
    `device_size` returns for this input, in kilopixels, None where it does not say: Penstock learns the pace of the
    model from it, also where the size of the image was not known before.
    """

    def __init__(
        self,
        tiles: Sequence[NDArray[Any]],
        *,
        lane: str = "",
        context: Any = None,
        device_size: int | None = None,
    ) -> None:
        self._tiles = tiles
        self.lane = lane
        self.context = context
        self.device_size = device_size
        self.outputs: list[Any] = [None] * len(tiles)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _take_former_names(cls)

    notes: tuple[Note, ...] = ()
    """What was done to the images of the input; set when `prepare` has returned."""

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the result image; None where there will be none. A format that cannot hold an image of
        this size is refused before anything runs."""
        return None

    @property
    def count(self) -> int:
        """The number of tiles."""
        return len(self.outputs)

    @property
    def open(self) -> int:
        """Tiles from this number on are not run yet, since outputs have to be taken away first. By default none
        waits."""
        return self.count

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of every tile, without the batch axis; () where tiles are no arrays."""
        shape = getattr(self._tiles[0], "shape", ())
        return shape if isinstance(shape, tuple) else ()

    def tile(self, index: int) -> NDArray[Any]:
        """The input of one tile. Called once for each, on a thread."""
        return self._tiles[index]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values of every tile."""
        return self._tiles[0].dtype

    def write_tile(self, index: int, into: NDArray[Any]) -> None:
        """Write the input of one tile into its place in the array of a batch, which has the shape and type of a tile.
        Called once for each, on a thread."""
        into[...] = self.tile(index)

    def accept(self, index: int, output: Any) -> None:
        """Take the output of one tile. Called once for each, in any order, from several threads."""
        self.outputs[index] = output

    def again(self, lane: str) -> Self:
        """The same work from its start, in another lane."""
        same = copy(self)
        same.lane, same.outputs = lane, [None] * self.count
        return same

    def check(self, output: Any) -> None:
        """Look at the output of a tile of the warm-up. Raise ConfigurationError when the device computes wrong values:
        then it does not serve."""

    def split_smaller(self, below: int) -> Work | None:
        """The same work in tiles of fewer elements than `below`, for a device that could not hold these; None when it
        cannot be split any further. Outputs that this work still gets are not used then."""
        return None


_take_former_names(Work)


class Card(Struct, frozen=True, kw_only=True):
    """The model as the catalogue shows it. A result that is not what `produces` says fails its task as
    `model_result_invalid`. `score_range` holds the bounds of `score` in the data of a model that returns one,
    `max_bits` the most that the samples of its images can have; one that `keeps_color` gives them in the colours of the
    input where a task asks for that."""

    title: str
    version: str = "1"
    licence: str = ""
    source: str = ""
    produces: Produces = "any"
    score_range: tuple[float, float] | None = None
    max_bits: Bits = 8
    keeps_color: bool = False
    notes: dict[str, Any] = field(default_factory=dict)


class Interrupted(Exception):
    """Raised by `infer` when `interrupt` has stopped it."""


class DeviceBroken(Exception):
    """The device or its context is lost: this process must not run anything on it any more.

    `guilty` says that the task was on the device when it broke; the others only waited for it.
    """

    def __init__(self, detail: str, *, guilty: bool = True) -> None:
        super().__init__(detail)
        self.guilty = guilty


class BaseModelRunner(ABC, Generic[ParamsT]):
    """One model in one worker process: made once, loaded once with `load_model`, then used for every task."""

    name: ClassVar[str]
    params: ClassVar[type[Params]] = Params
    card: ClassVar[Card] = Card(title="")
    one_at_a_time: ClassVar[bool] = False
    """Whether `infer` takes a list of one tile, which may then be anything (a list, a dict of arrays), in place of an
    array of several: no device batch has tiles of two tasks, and nothing is padded."""
    example: ClassVar[Example | None] = None
    """A request that the model was tried with, and its answer, for the catalogue."""
    concurrent: ClassVar[bool] = False
    """Whether several threads may call `infer` at a time: one for each core on a CPU, two on a GPU, so that one batch
    computes while the results of another are copied. If not, batches run one at a time, on a GPU always on the thread
    that has loaded the model."""
    files: ClassVar[tuple[str, ...]] = ()
    """Paths of model files, relative to the folder of the runner's module, for `read_file`. When a file changes,
    earlier results are no longer reused."""
    inputs: ClassVar[Inputs] = {}
    """The members of the input by name: `"image"`, `"file"`, `"json"`, or a Member that says more. A class that
    declares none takes one image, and its `source` is the bytes of it; else `source` is an InputMembers."""
    reads_output: ClassVar[bool] = False
    """Whether `prepare` takes the OutputOptions too, as a third argument."""
    max_batch: int = 0
    """The most tiles of a device batch, which `load_model` may set; 0 leaves it to the device."""
    window_s: ClassVar[float] = 0.0
    """How long the first tile waits for others when the device is free and a larger batch would pay; with 0 the device
    runs at once what is there."""

    def __init__(self, limits: LimitSettings) -> None:
        self.limits = limits

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _take_former_names(cls)

    @classmethod
    def digest(cls) -> str:
        """A text that changes whenever the model gives other results for the same input, so that earlier ones are no
        longer reused. By default it is the version on the card. `digests.results_digest` adds the source of runners
        that are not Penstock's own, and their `files`."""
        return cls.card.version

    @classmethod
    def read_file(cls, name: str) -> bytes:
        """The contents of one of `files`. Raises ConfigurationError when it is not listed there or cannot be read."""
        if name not in cls.files:
            raise ConfigurationError(f"{cls.name}: {name!r} is not in the runner's `files`")
        return contents_of(cls, name)

    @classmethod
    def sizes(cls) -> Sizes:
        """How large results are, and how much the network computes, as the API reads it: without a word, the image as
        it is. A runner whose sizes no `Sizes` can say overrides `output_size` and `device_size`, which workers use."""
        return Sizes()

    @classmethod
    def output_size(cls, width: int, height: int, params: ParamsT) -> tuple[int, int] | None:
        """Width and height of the result for an image of this size; None where there is no image, or it is not
        known."""
        return cls.sizes().rule_of(asdict(params)).result_of(width, height)

    @classmethod
    def device_size(cls, width: int, height: int, params: ParamsT) -> int:
        """How much the network computes for an image of this size, in kilopixels: fair shares and estimates go by
        it."""
        return cls.sizes().rule_of(asdict(params)).kilopixels_of(width, height)

    def load_model(self, device: Device) -> None:
        """Load the model. Called on the device thread; no task is claimed before all models are loaded."""

    def unload(self) -> None:
        """Drop what `load_model` has made, so that its memory is free when this returns. Called when no task uses the
        model; the runner is not used again. By default nothing is done: what only the runner holds goes with it."""

    def warmup(self) -> Iterable[Work]:
        """Work of one tile for every lane and shape that the device should have seen before the first task. After
        `load_model` these tiles go through `infer` at every batch size."""
        return ()

    def memory_needed(self, source: Any, params: ParamsT) -> int:
        """The bytes of memory that a task with this input needs from `prepare` to the end of `postprocess`; it waits
        until they are free. Raises what `prepare` raises."""
        return size_of(source)

    def memory_for(self, source: Any, params: ParamsT, output: OutputOptions) -> int:
        """The same for a result that is written like this: `memory_needed`, and what an encoder takes that takes more
        than most."""
        needed, extra = self.memory_needed(source, params), encoder_bytes(output)
        if not extra or not isinstance(source, bytes):
            return needed
        header = probe(source, bounds_for(self.limits, params))
        size = self.output_size(header.width, header.height, params)
        return needed + extra * prod(size) if size else needed

    @abstractmethod
    def prepare(self, source: Any, params: ParamsT) -> Work:
        """Turn an input into work: the bytes of an image, or the InputMembers of a class with `inputs`. Errors of the
        input must be raised as classes of `penstock.errors`."""

    @abstractmethod
    def infer(self, tiles: Any, work: Work) -> Outputs:
        """Run a batch: `tiles` is an array with a leading batch axis. Returns one output for each tile, in order.
        `work` is the work of one of the tiles; all of them have its lane."""

    def in_fp32(self, work: Work) -> Work | None:
        """The same work for one more run in fp32, after outputs with less precision that cannot be a result. Called on
        a codec thread. None, the default, where it was run in fp32: then the task fails."""
        return None

    @abstractmethod
    def postprocess(self, work: Work, params: ParamsT, output: OutputOptions) -> Product:
        """Make the result of a task from its finished work."""

    def stream(self, work: Work, params: ParamsT, output: OutputOptions) -> ResultStream | None:
        """The result of this work, for a model that can write it while outputs come. Called once, behind `prepare`.
        None, the default, where `postprocess` makes it."""
        return None

    def interrupt(self, work: Work) -> None:
        """Stop every `infer` that runs with this work, if that is possible; it then raises Interrupted. Called from
        another thread."""

    def image(self, source: bytes, params: Params | None = None) -> Picture:
        """Decode an image within the operator's limits; a truncated one where these parameters accept that."""
        picture: Picture = decoding.decode(source, bounds_for(self.limits, params))
        return picture


_take_former_names(BaseModelRunner)


def as_tile(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn (height, width, 3) of 0..255 into (3, height, width) of 0..1."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


model_runner: Callable[[str], Callable[[type[RunnerT]], type[RunnerT]]]
registry: Callable[[], dict[str, type[BaseModelRunner[Any]]]]


def __getattr__(name: str) -> Any:
    # Models import these two from here. The registry stands above this module, since it adapts what is written here.
    if name in ("model_runner", "registry"):
        return getattr(import_module("penstock.models.registry"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
