"""The runner contract: what a model must say to be served.

    @model_runner("invert")
    class Invert(BaseModelRunner[Params]):
        def load_model(self, device): ...            device thread, once in a process
        def prepare(self, source, params): ...       CPU pool: bytes -> Work
        def infer(self, tiles, work): ...            a device thread: (n, ...) -> n outputs
        def postprocess(self, work, params, output)  CPU pool: Work with its outputs -> Product

Work is a number of tiles of one shape. Tiles of all tasks in flight that have the same runner, lane and shape may
meet in one `infer`; a runner that does not cut its input has one tile.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar, Union

from msgspec import Struct, field

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.errors import ConfigurationError
from penstock.lazy_import import lazy_import
from penstock.models import imaging
from penstock.settings import LimitSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


class Params(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of a model's parameters, and itself the empty set of them."""


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


Outputs = Union[Sequence[Any], "NDArray[Any]"]
"""What `infer` gives: one output for each tile of the batch."""


class Work:
    """Prepared input of one task. `lane` names what tiles must share to meet in a batch, besides their shape;
    `context` is the runner's own. `device_size` is that of the runner for this input, None where it does not say: the
    pace of the model is learned from it also where the size of the image was not known before."""

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

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height of the result image; None where there will be none. A format that cannot hold it is refused
        before anything runs."""
        return None

    @property
    def count(self) -> int:
        """How many tiles."""
        return len(self.outputs)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of every tile, without the batch axis."""
        return self._tiles[0].shape

    def tile(self, index: int) -> NDArray[Any]:
        """Input of one tile. Called on the CPU pool, once."""
        return self._tiles[index]

    def accept(self, index: int, output: Any) -> None:
        """Take the output of one tile. Called on the CPU pool, once, in any order, from several threads."""
        self.outputs[index] = output

    def split_smaller(self, below: int) -> Work | None:
        """The same work in tiles of fewer elements than `below`, for a device that could not hold these; None when
        it cannot be cut any finer. What tiles of this work still give is then of no use."""
        return None


class Product(Struct, frozen=True, kw_only=True, eq=False):
    """What a run gives: a file to store, JSON data to answer with, or both."""

    file: bytes | None = None
    content_type: str = "application/octet-stream"
    extension: str = "bin"
    width: int | None = None
    height: int | None = None
    data: dict[str, Any] | None = None


Produces = Literal["image", "data", "any"]
"""What a model gives: the file of an image, perhaps with data; data without a file; or whatever it likes."""


class Card(Struct, frozen=True, kw_only=True):
    """The model as the catalogue shows it. A result that is not what `produces` says fails its task as
    `model_result_invalid`; `score_range` are the bounds of `score` in the data of a model that gives it."""

    title: str
    version: str = "1"
    licence: str = ""
    source: str = ""
    produces: Produces = "any"
    score_range: tuple[float, float] | None = None
    notes: dict[str, Any] = field(default_factory=dict)


class Interrupted(Exception):
    """`infer` was stopped on request."""


class DeviceBroken(Exception):
    """The device or its context is lost: this process must not run anything on it any more.

    `guilty` says that the task was on the device when it broke; others were only there.
    """

    def __init__(self, detail: str, *, guilty: bool = True) -> None:
        super().__init__(detail)
        self.guilty = guilty


class BaseModelRunner(ABC, Generic[ParamsT]):
    """One model in one worker process; made once, `load_model` called once, then used for every task."""

    name: ClassVar[str]
    params: ClassVar[type[Params]] = Params
    card: ClassVar[Card] = Card(title="")
    concurrent: ClassVar[bool] = False
    """Whether `infer` may be called from several threads at a time. Only a CPU asks for it."""
    files: ClassVar[tuple[str, ...]] = ()
    """Model files, by their paths from the folder of the runner's module. Read with `read_file`; when one changes, no
    result of before is reused."""
    window_s: ClassVar[float] = 0.0
    """How long the first tile waits for others when the device is free and a larger batch would pay: 0 runs at once
    what is there."""

    def __init__(self, limits: LimitSettings) -> None:
        self.limits = limits

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        _take_former_names(cls)

    @classmethod
    def digest(cls) -> str:
        """Changes whenever the model gives other results for the same input: those of before are no longer reused. Here
        it is the version on the card. `results_digest` adds the source of runners that are not Penstock's own, and
        their `files`."""
        return cls.card.version

    @classmethod
    def read_file(cls, name: str) -> bytes:
        """The contents of one of `files`. Raises ConfigurationError when it is not listed there, or cannot be read."""
        if name not in cls.files:
            raise ConfigurationError(f"{cls.name}: {name!r} is not in the runner's `files`")
        return _contents(cls, name)

    @classmethod
    def output_size(cls, width: int, height: int, params: ParamsT) -> tuple[int, int] | None:
        """Width and height of the result for an image of this size; None where there is no image, or nobody knows."""

    @classmethod
    def device_size(cls, width: int, height: int, params: ParamsT) -> int:  # noqa: ARG003  others need it
        """How much the network computes for an image of this size, in kilopixels: what fair shares and estimates go by.
        Here it is the image; a runner that resizes or pads its input says what becomes of it."""
        return max(1, width * height // 1000)

    def load_model(self, device: Device) -> None:
        """Load and warm up. Runs on the device thread; no task is claimed before all models are loaded."""

    def warmup(self) -> Iterable[Work]:
        """Works of one tile for every lane and shape that the device should have seen before the first task. Their
        tiles go through `infer` at every batch size, after `load_model`."""
        return ()

    def memory_needed(self, source: bytes, params: ParamsT) -> int:
        """Bytes that a task with this input will take from `prepare` to the end of `postprocess`: tasks that do not
        fit beside those in flight wait. Raises as `prepare` does."""
        return len(source)

    @abstractmethod
    def prepare(self, source: bytes, params: ParamsT) -> Work:
        """Turn input bytes into work. Errors of the input are raised as classes of `penstock.errors`."""

    @abstractmethod
    def infer(self, tiles: NDArray[Any], work: Work) -> Outputs:
        """Run a batch: `tiles` has a leading batch axis; one output for each, in order. `work` is one of the works
        that the tiles came from; they all have its lane."""

    @abstractmethod
    def postprocess(self, work: Work, params: ParamsT, output: OutputOptions) -> Product:
        """Make the result of a task from its finished work."""

    def interrupt(self, work: Work) -> None:
        """Stop every `infer` that was called with this work and runs now, from another thread, if that is possible;
        it then raises Interrupted."""

    def image(self, source: bytes) -> imaging.Picture:
        """Decode an image within the operator's limits."""
        return imaging.decode(source, max_megapixels=self.limits.max_image_megapixels)


@cache
def results_digest(runner: type[BaseModelRunner[Any]]) -> str:
    """Changes whenever the runner may give other results for the same input: its own `digest`, and for a runner that is
    not Penstock's (which has a version) the sha256 of its source and of its `files`. The source is the module that it
    is defined in, with all modules beside it when it is part of a package, else those beside it that were imported, and
    those of its base classes. It is read once: whoever edits a model starts the API and the workers again.

    Raises ConfigurationError when one of its files cannot be read.
    """
    sources = sorted({path for base in runner.__mro__ for path in _sources(base)})
    if not sources:
        return runner.digest()
    whole = hashlib.sha256()
    for content in (*(path.read_bytes() for path in sources), *(_contents(runner, name) for name in runner.files)):
        whole.update(hashlib.sha256(content).digest())
    return f"{runner.digest()} {whole.hexdigest()}"


def _sources(cls: type) -> Iterable[Path]:
    """Where the code of a class is, if it belongs to a runner of the operator's."""
    module = sys.modules[cls.__module__]
    file = getattr(module, "__file__", None)
    if file is None or cls.__module__.split(".")[0] in {"penstock", *sys.stdlib_module_names}:
        return ()
    folder = Path(file).parent
    if module.__package__:
        return folder.rglob("*.py")
    loaded = [Path(found) for one in list(sys.modules.values()) if (found := getattr(one, "__file__", None))]
    return [path for path in loaded if path.parent == folder and path.suffix == ".py"]


def _contents(runner: type[BaseModelRunner[Any]], name: str) -> bytes:
    path = Path(str(sys.modules[runner.__module__].__file__)).parent / name
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{runner.name}: cannot read its file {path}: {error.strerror}") from error


def as_tile(rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """(height, width, 3) of 0..255 -> (3, height, width) of 0..1."""
    return np.ascontiguousarray(rgb.transpose(2, 0, 1), dtype=np.float32) / np.float32(255)


_REGISTRY: dict[str, type[BaseModelRunner[Any]]] = {}


def model_runner(name: str) -> Callable[[type[RunnerT]], type[RunnerT]]:
    """Register a runner class under the name that clients use."""

    def register(cls: type[RunnerT]) -> type[RunnerT]:
        if name in _REGISTRY and _REGISTRY[name].__qualname__ != cls.__qualname__:
            raise ConfigurationError(f"two runners are named {name}")
        cls.name = name
        _REGISTRY[name] = cls
        return cls

    return register


def registry() -> dict[str, type[BaseModelRunner[Any]]]:
    """Every registered runner by name; `penstock.models` must have been imported."""
    return dict(_REGISTRY)
