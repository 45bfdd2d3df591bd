"""A network on one device, in runs that can be stopped: any ONNX file, whoever vouches for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, Union

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.models.base import DeviceBroken, Interrupted
from penstock.models.onnxruntime import faults
from penstock.models.onnxruntime.bindings import Feeds
from penstock.models.onnxruntime.cuda_device import cuda_device_for
from penstock.models.onnxruntime.providers import engine_directory, setup
from penstock.models.onnxruntime.runtime import External, open_session, runtime, runtime_version
from penstock.models.onnxruntime.sessions import PairedSessions, Sessions, ShapeSessions

if TYPE_CHECKING:
    from numpy.typing import NDArray

HELD_BYTES = 64 * 1024 * 1024
"""The contents of a larger file are read and verified again for each further session on a card, not held in memory."""

Inputs = Union["NDArray[Any]", Feeds]
"""The array of the only input, or each array by the name of its input."""


class NetworkFile(Protocol):
    """A file with a digest that somebody vouches for."""

    @property
    def file(self) -> str:
        """Its name, for messages."""

    @property
    def sha256(self) -> str:
        """The digest of its contents."""

    @property
    def weights_bytes(self) -> int:
        """How large its weights are, with those in files of their own."""

    @property
    def precision(self) -> str:
        """The arithmetic that it computes in, `fp32` or `fp16`."""

    def external(self) -> External:
        """Its external data, verified. Raises ConfigurationError."""

    @property
    def cpu_nodes(self) -> bool | None:
        """Whether a GPU may leave nodes to the CPU: None leaves only those that are cheap, such as of shapes."""

    def read(self) -> bytes:
        """Its contents, verified. Raises ConfigurationError."""


class NetworkSession:
    """One file on one device. Only device threads call `run`; any thread may call `interrupt`."""

    def __init__(
        self,
        file: NetworkFile,
        device: Device,
        shapes: Sequence[tuple[int, int]] = (),
        options: Mapping[str, str] | None = None,
        outputs: Sequence[str] = (),
    ) -> None:
        """`shapes` are the (height, width) of the tiles of this model, where they are not those of the device,
        `options` more options for the CUDA provider, and `outputs` those that runs return, all unless some are named.

        Raises ConfigurationError when the file has not its digest, has no such output, or the runtime would use another
        provider than it was told to; DeviceBroken when another start may help.
        """
        self._lock = Lock()
        self._running: dict[Any, object] = {}
        try:
            self._sessions = _sessions(file, device, shapes or device.shapes, options or {}, outputs)
        except ConfigurationError:
            raise
        except Exception as error:  # the runtime's own classes are private
            raise faults.of_load(error, f"{file.file} cannot run on {device.name}") from error
        self.provider = self._sessions.provider
        self.ports = self._sessions.ports

    def run(self, inputs: Inputs, *, owner: object = None) -> list[NDArray[Any]]:
        """Run one batch and return all outputs, which belong to the caller; `interrupt` finds the run by its `owner`.

        On a CUDA device two threads may call it at a time: the results of one are copied while the other computes.

        Raises Interrupted, DeviceOutOfMemory, DeviceBroken.
        """
        (outputs,) = self.run_each([inputs], owner=owner)
        return outputs

    def run_each(self, parts: Iterable[Inputs], *, owner: object = None) -> list[list[NDArray[Any]]]:
        """Run one after another, and return the outputs of each; `interrupt` stops them as if they were one. Raises
        what `run` raises."""
        with self._stoppable(owner) as options:
            return [self._sessions.run(self._feeds(part), options) for part in parts]

    def interrupt(self, owner: object = None) -> None:
        """Make the present runs of this owner raise Interrupted at their next node; a CUDA graph runs to its end."""
        with self._lock:
            for options in [o for o, its_owner in self._running.items() if its_owner is owner]:
                options.terminate = True

    def close(self) -> None:
        """Give back the memory of the weights. No run may be going on, and none may follow."""
        self._sessions.close()

    def _feeds(self, inputs: Inputs) -> Feeds:
        return inputs if isinstance(inputs, Mapping) else {self.ports.inputs[0].name: inputs}

    @contextmanager
    def _stoppable(self, owner: object) -> Iterator[Any]:
        options = runtime().RunOptions()  # a terminated one stays so: a new one for each run
        with self._lock:
            self._running[options] = owner
        try:
            yield options
        except Exception as error:  # the runtime's own classes are private
            if self._meaning(error, options) is error:
                raise  # as its own cause it would hold the tiles until the garbage collector comes
            raise self._meaning(error, options) from error
        finally:
            with self._lock:
                del self._running[options]

    def _meaning(self, error: Exception, options: Any) -> Exception:
        meant = faults.of_run(error)
        # A device that broke beside the run must not be used again, whoever wanted the run to stop.
        return Interrupted() if options.terminate and not isinstance(meant, DeviceBroken) else meant


def _sessions(
    file: NetworkFile,
    device: Device,
    shapes: Sequence[tuple[int, int]],
    options: Mapping[str, str],
    outputs: Sequence[str],
) -> Sessions:
    engines = engine_directory(device, file.sha256, runtime_version())
    if device.tensorrt:
        Path(engines).mkdir(mode=0o700, parents=True, exist_ok=True)
    wanted = partial(
        setup,
        device,
        fp16=file.precision == "fp16",
        shapes=shapes,
        engines=engines,
        options=options,
        cpu_nodes=file.cpu_nodes,
    )
    data = file.read()
    card = cuda_device_for(device) if device.kind == "cuda" else None
    if card is None:
        return PairedSessions(
            device,
            lambda threads: open_session(data, wanted(), threads=threads, external=file.external()),
            outputs,
            file.weights_bytes,
        )
    held = data if len(data) <= HELD_BYTES else None

    def open_on_device(*, for_graph: bool) -> Any:
        of_its_own = card.limit_bytes if for_graph else 0
        setting = wanted(stream=card.stream, graph_bytes=of_its_own)
        return open_session(held or file.read(), setting, threads=device.threads, external=file.external())

    return ShapeSessions(card, device, open_on_device, outputs, file.weights_bytes)
