"""The checks of a model, in the order in which they run. Each is a row of the table."""

import asyncio
import gc
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from http import HTTPStatus
from typing import Any, NamedTuple

import numpy as np

from penstock.conformance.likeness import same_products, same_values
from penstock.conformance.local_model import LocalModel, LocalRun
from penstock.conformance.report import ContractFinding, Verdict, raised
from penstock.conformance.samples import SampleInput, variants_of
from penstock.core.request import OutputOptions
from penstock.errors import Internal, ModelError, PenstockError
from penstock.models.base import BaseModelRunner, Params, ProductFile, Work
from penstock.models.short import ShortContract
from penstock.pixels.encoding import CONTENT_TYPES
from penstock.worker.batcher.stop_patience import STUCK_S
from penstock.worker.memory import resident

MOST_TILES = 4
"""The largest batch that the kit makes itself."""

WATCHED_S = 4.0
"""About how long the memory of a model is watched."""

LEAK_BYTES, LEAK_RUN_BYTES = 8 * 2**20, 64 * 2**10
"""Memory that grows by more than both, in all and with each run, counts as kept. Python and the allocator keep less."""

QUICK_MS = 50
"""A run that ends by itself within this time need not be stopped."""

FAULTS = (ModelError, Internal)
"""Errors of a task that are faults of the model, not of its input."""


SAY_SO = "raise an error of penstock.errors for what it cannot take"


class CheckedModel(NamedTuple):
    """A loaded model, with an input, its parameters, and what it gave for them."""

    model: LocalModel
    sample: SampleInput
    params: Params
    first: LocalRun

    @property
    def runner(self) -> BaseModelRunner[Any]:
        """The runner that is checked."""
        return self.model.runner

    async def run(self, sample: SampleInput, output: OutputOptions = OutputOptions(), **more: Any) -> LocalRun:  # noqa: B008
        """Run another input, or the same one again."""
        return await self.model.run(sample.source_for(self.runner), self.params, output, **more)


Seen = tuple[Verdict, str]


async def contract(on: CheckedModel) -> Seen:
    if not isinstance(on.runner, ShortContract):
        return "ok", "all methods have the full form"
    short = [method for method, form in on.runner.forms.items() if form == "short" and not method.startswith("_")]
    return "ok", f"the short form of {', '.join(short)}"


async def answer(on: CheckedModel) -> Seen:
    took = ", ".join(f"{stage} {ms:.0f} ms" for stage, ms in on.first.took_ms.items())
    return "ok", f"{described(on.first)}; {took}"


async def card(on: CheckedModel) -> Seen:
    says = on.runner.card.produces
    if says == "any":
        gives = "image" if _is_image(on.first) else "any" if on.first.files else "data"
        hint = (
            "" if gives == "any" else f'; card = Card(title="…", produces="{gives}") would tell clients what to expect'
        )
        return "ok", f'produces "any"{hint}'
    return "ok", f'produces "{says}", as it does'


async def encoding(on: CheckedModel) -> Seen:
    if not _is_image(on.first):
        return "skip", "the result is no image"
    for asked, content_type in CONTENT_TYPES.items():
        given = (await on.run(on.sample, OutputOptions(format=asked))).files[0].content_type
        if given != content_type:
            return "fail", f"asked for {asked}, and the file is {given}: encode with the `output` of postprocess"
    return "ok", f"{', '.join(CONTENT_TYPES)} as asked"


async def again(on: CheckedModel) -> Seen:
    second = await on.run(on.sample)
    if same_products(on.first.product, second.product):
        return "ok", "the same input gives the same result"
    return "warn", "the same input gives another result: equal tasks share one run, unless they say reuse: false"


async def neighbours(on: CheckedModel) -> Seen:
    samples = [on.sample, on.sample, *list(variants_of(on.sample, type(on.runner)))[-3:]]
    # All are prepared before the first runs, as in a worker whose device is busy.
    works = [await on.model.prepare(one.source_for(on.runner), on.params) for one in samples]
    done = await asyncio.gather(*(on.model.finish(work, on.params) for work in works))
    alike = all(same_products(on.first.product, run.product) for run in done[:2])
    if not alike and (await again(on))[0] == "ok":
        return "fail", "gives another result beside other tasks: keep nothing of a task in self"
    return "ok", f"the same result beside {len(samples) - 1} other tasks"


async def batches(on: CheckedModel) -> Seen:
    if on.runner.one_at_a_time:
        return "skip", "infer takes one tensor at a time"
    runner, work = on.runner, on.first.work
    tiles = [work.tile(n % work.count) for n in range(MOST_TILES)]
    singles = [_infer(runner, np.stack([tile]), work)[0] for tile in tiles]
    for size in (2, MOST_TILES):
        outputs = _infer(runner, np.stack(tiles[:size]), work)
        if len(outputs) != size:
            return "fail", f"infer gave {len(outputs)} outputs for {size} tiles: give one for each, in order"
        if not all(map(same_values, outputs, singles)):
            return "fail", f"a batch of {size} gives other outputs than single tiles: compute along the first axis"
    return "ok", f"batches of 2 and {MOST_TILES} equal single tiles"


async def sizes(on: CheckedModel) -> Seen:
    variants = list(variants_of(on.sample, type(on.runner)))
    refused: list[str] = []
    unanswered: list[str] = []
    for variant in variants:
        try:
            await on.run(variant)
        except FAULTS as error:
            return "fail", f"{variant.name}: {raised(error)}; {SAY_SO}"
        except PenstockError as error:
            (refused if error.status < HTTPStatus.INTERNAL_SERVER_ERROR else unanswered).append(variant.name)
    if not variants:
        return "skip", "the model takes no image, or several"
    if unanswered:
        return "warn", f"gives no valid result for {', '.join(unanswered)}: {SAY_SO}"
    return "ok", f"answers all of {len(variants)}" if not refused else f"refuses {', '.join(refused)}"


async def not_a_number(on: CheckedModel) -> Seen:
    work, outputs = on.first.work, list(on.first.work.outputs)
    if same_values(_with_nan(outputs), outputs):
        return "skip", "its outputs are no floating-point numbers"
    work.outputs = _with_nan(outputs)
    try:
        await asyncio.to_thread(on.model.pack, work, on.params, OutputOptions())
    except Exception as error:  # noqa: BLE001  any refusal will do
        return "ok", f"an output that is not a number is refused ({type(error).__name__})"
    finally:
        work.outputs = outputs
    return "fail", "an output of NaN becomes a result: check np.isfinite, and raise penstock.errors.InvalidOutput"


async def cancel(on: CheckedModel) -> Seen:
    if on.first.device_ms < QUICK_MS:
        return "ok", f"a run ends by itself in {on.first.device_ms:.0f} ms"
    begun = asyncio.Event()
    running = asyncio.create_task(on.run(on.sample, on_begin=begun.set))
    await begun.wait()
    await asyncio.sleep(on.first.device_ms / 4000)
    began = time.perf_counter()
    running.cancel()
    with suppress(asyncio.CancelledError, Exception):
        await running
    took_s = time.perf_counter() - began
    if on.model.device.broken:
        return (
            "fail",
            f"a canceled run goes on for more than {STUCK_S:g} s, and its worker is replaced: define interrupt",
        )
    await on.run(on.sample)
    return "ok", f"a canceled run ends after {took_s * 1000:.0f} ms, and the next one is well"


async def memory(on: CheckedModel) -> Seen:
    runs = int(min(40, max(2, WATCHED_S * 1000 / 3 / max(1.0, sum(on.first.took_ms.values())))))
    before, after, grown = 0, 0, []
    for _ in range(3):  # in the first round the allocator finds its size
        for _ in range(runs):
            await on.run(on.sample)
        before, after = after, _settled()
        grown.append(after - before)
    least = min(grown[1:])
    if least > LEAK_BYTES and least > runs * LEAK_RUN_BYTES:
        return "fail", f"grows by {least / runs / 2**20:.1f} MB with each run: keep nothing of a task in self"
    return (
        "ok",
        f"{after / 2**20:.0f} MB after {3 * runs} runs, {max(0, least) / 2**20:.1f} MB more than after {2 * runs}",
    )


CHECKS: dict[str, Callable[[CheckedModel], Awaitable[Seen]]] = {
    "contract": contract,
    "answer": answer,
    "card": card,
    "encoding": encoding,
    "again": again,
    "neighbours": neighbours,
    "batches": batches,
    "sizes": sizes,
    "not a number": not_a_number,
    "memory": memory,
    "cancel": cancel,
}
"""Name -> check. The last one may break the device."""


async def finding_of(name: str, on: CheckedModel) -> ContractFinding:
    """Run the check of this name. What a model raises where it may not fails the check."""
    try:
        verdict, seen = await CHECKS[name](on)
    except Exception as error:  # noqa: BLE001  the model's own code
        verdict, seen = "fail", raised(error)
    return ContractFinding(check=name, verdict=verdict, seen=seen)


def described(run: LocalRun) -> str:
    """What a run gave, in a few words."""
    parts = [_described_file(file) for file in run.files]
    return " and ".join(
        [*parts, *([f"data with {', '.join(run.product.data) or 'nothing'}"] if run.product.data else [])]
    )


def _described_file(file: ProductFile) -> str:
    size = f", {file.width}×{file.height} px" if file.width and file.height else ""
    return f"{file.name} ({file.content_type}{size}, {len(file.content):,} bytes)"


def _is_image(run: LocalRun) -> bool:
    return bool(run.files) and run.files[0].content_type.startswith("image/")


def _infer(runner: BaseModelRunner[Any], tiles: Any, work: Work) -> list[Any]:
    return list(runner.infer(tiles, work))


def _with_nan(output: Any) -> Any:
    """The output with NaN in place of each floating-point number, at any depth."""
    if isinstance(output, float):
        return math.nan
    if isinstance(output, np.ndarray | np.floating):
        return np.full_like(output, np.nan) if output.dtype.kind == "f" else output
    if isinstance(output, tuple | list):
        return [_with_nan(part) for part in output]
    return {name: _with_nan(part) for name, part in output.items()} if isinstance(output, dict) else output


def _settled() -> int:
    gc.collect()
    return resident()
