"""A model in this process: loaded on a device, and run through the same stages, threads and batches as in a worker."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, TypeVar

from msgspec import Struct

from penstock.core.device import Device
from penstock.core.request import OutputOptions
from penstock.core.task import Priority, Result
from penstock.errors import InvalidRequest, ModelResultInvalid
from penstock.models.base import BaseModelRunner, Params, Product, ProductFile, Work
from penstock.models.gate import GateParams
from penstock.models.products import product_of
from penstock.settings import Settings
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.codecs import CodecThreads
from penstock.worker.gate import compared, with_report
from penstock.worker.model_code import model_code
from penstock.worker.results import files_of, published
from penstock.worker.threads import Threads, tile_threads

T = TypeVar("T")


class LocalRun(Struct, frozen=True, eq=False):
    """What one input gave: the product and the result as a task would show it, and the milliseconds of each stage."""

    work: Work
    product: Product
    result: Result
    took_ms: dict[str, float]

    @property
    def files(self) -> list[ProductFile]:
        """The files of the result, by their names; the first is the one that stands for it."""
        return files_of(self.product)

    @property
    def device_ms(self) -> float:
        """How long it was on the device, and waited for it."""
        return self.took_ms["infer"]


class LocalModel:
    """A loaded model; `loaded` makes one. `load_s` is how long it took to load and to warm up."""

    def __init__(self, runner: BaseModelRunner[Any], device: DeviceScheduler, settings: Settings, load_s: float):
        self.runner = runner
        self.device = device
        self.load_s = load_s
        self._settings = settings
        self._codecs = CodecThreads(device.device)

    async def run(
        self,
        source: Any,
        params: Params,
        output: OutputOptions = OutputOptions(),  # noqa: B008  it is frozen
        *,
        on_begin: Callable[[], None] = lambda: None,
    ) -> LocalRun:
        """Run one input. Raises what the task would fail with: ModelError, from what the model has raised, errors of
        the input, InvalidOutput, ModelResultInvalid, DeviceBroken; and InvalidRequest where scores are wanted: there is
        no other model here."""
        if isinstance(params, GateParams) and params.post.score:
            raise InvalidRequest("a server scores: here is one model alone", param="params.post.score")
        took_ms: dict[str, float] = {}
        with _timed(took_ms, "prepare"):
            work = await self.prepare(source, params)
        return await self.finish(work, params, output, on_begin=on_begin, took_ms=took_ms)

    async def prepare(self, source: Any, params: Params) -> Work:
        """The work of one input, for `finish`. Raises as `run` does."""
        work = await self._on_codec("prepare", self.runner.prepare, source, params)
        if not isinstance(work, Work):
            raise ModelResultInvalid(f"prepare returned a {type(work).__name__}, not a Work")
        return work

    async def finish(
        self,
        work: Work,
        params: Params,
        output: OutputOptions = OutputOptions(),  # noqa: B008  it is frozen
        *,
        on_begin: Callable[[], None] = lambda: None,
        took_ms: dict[str, float] | None = None,
    ) -> LocalRun:
        """Run prepared work to its result. Raises as `run` does."""
        took_ms = {} if took_ms is None else took_ms
        with _timed(took_ms, "infer"):
            done = await self.device.run(
                self.runner, work, priority=Priority.NORMAL, on_progress=_unheard, on_begin=on_begin
            )
        with _timed(took_ms, "postprocess"):
            product, result = await self._on_codec("postprocess", self.pack, done.work, params, output)
        return LocalRun(done.work, product, result, took_ms)

    def pack(self, work: Work, params: Params, output: OutputOptions) -> tuple[Product, Result]:
        """The product of work with its outputs, and the result that is made of it. Raises as `run` does."""
        limits = self._settings.limits
        report = compared(self.runner, work, params)
        product = product_of(self.runner.postprocess(work, params, output), output)
        product = with_report(product, report, output, limits)
        result, _ = published(
            product,
            "result",
            produces=self.runner.card.produces,
            limits=limits,
        )
        return product, result

    def close(self) -> None:
        """End its threads."""
        self._codecs.usual.close()

    async def _on_codec(self, method: str, call: Callable[..., T], *args: Any) -> T:
        def calling() -> T:
            with model_code(method):
                return call(*args)

        return await self._codecs.usual.run(calling)


@asynccontextmanager
async def loaded(cls: type[BaseModelRunner[Any]], settings: Settings, device: Device) -> AsyncIterator[LocalModel]:
    """Load a model on a device, and free both at the end. Raises ConfigurationError where it cannot be loaded."""
    with Threads(tile_threads(device), "tiles") as tiles:
        scheduler = DeviceScheduler(device, tiles)
        began = time.perf_counter()
        try:
            runner = cls(settings.limits)
            await scheduler.start([runner])
            model = LocalModel(runner, scheduler, settings, time.perf_counter() - began)
            try:
                yield model
            finally:
                model.close()
        finally:
            await asyncio.shield(scheduler.close())


def _unheard(_done: int, _total: int) -> None:
    pass


@contextmanager
def _timed(took_ms: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    took_ms[stage] = (time.perf_counter() - began) * 1000
