"""The quality gate of a task: the input and the result are scored by the model of this worker that scores, through the
device scheduler as any task, and shown beside one another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from msgspec import Struct
from msgspec.structs import replace

from penstock.core.gate import SCORER, Post
from penstock.core.output import OutputOptions
from penstock.errors import ModelNotFound, ModelUnavailable
from penstock.lazy_import import lazy_import
from penstock.models.base import Params, Product, ProductFile, Work
from penstock.models.gate import SIDE_BY_SIDE_PX, Compares, Comparison, GateParams, enlarged, side_by_side
from penstock.pixels.formats import CONTENT_TYPES, MAX_SIDES
from penstock.pixels.notes import Note
from penstock.pixels.picture import Picture
from penstock.settings import LimitSettings
from penstock.worker.batcher.device_work import Runner
from penstock.worker.preparing import ModelCall
from penstock.worker.residency.residents import Residents

if TYPE_CHECKING:
    from penstock.models.scoring import ImageScoring

scoring_model = lazy_import("penstock.models.scoring")
encoding = lazy_import("penstock.pixels.encoding")

DECIMALS = 4

OnThread = Callable[..., Awaitable[Any]]
"""Runs a call on a codec thread."""

OnDevice = Callable[[Runner, Work], Awaitable[Work]]
"""Runs work on the device and returns it with its outputs."""


class GateReport(Struct, frozen=True, eq=False):
    """What a gate adds to a result: data, notes, and the images that are to be shown."""

    data: dict[str, Any] = {}
    notes: tuple[Note, ...] = ()
    comparison: Comparison | None = None


NOTHING = GateReport()

NO_SCORES: AbstractContextManager[None] = nullcontext()
"""For all tasks that want none, which are most."""


class QualityGate:
    """Looks at results whose task asks for that. `models` are those of the worker."""

    def __init__(self, models: Residents) -> None:
        self._models = models

    def ready(self, params: Params) -> AbstractContextManager[ImageScoring | None]:
        """Inside of this block the scoring model stays loaded; yields None where the task wants no scores. Raises
        ModelUnavailable where this worker does not have it."""
        wants_scores = isinstance(params, GateParams) and params.post.score
        return self._scorer() if wants_scores else NO_SCORES

    @contextmanager
    def _scorer(self) -> Iterator[ImageScoring]:
        try:
            use = self._models.take(SCORER)
        except ModelNotFound:
            use = None
        if use is None:
            raise ModelUnavailable(f"this worker has no {SCORER} to score the result with")
        with self._models.using(use) as scorer:
            if not isinstance(scorer, scoring_model.ImageScoring):
                raise ModelUnavailable(f"{SCORER} of this worker is another model than Penstock's")
            yield scorer

    async def report(
        self,
        call: ModelCall,
        work: Work,
        scorer: ImageScoring | None,
        *,
        on_cpu: OnThread,
        on_device: OnDevice,
    ) -> GateReport:
        """Look at work that has run, before its result is encoded."""
        params = call.params
        if not isinstance(params, GateParams) or not params.needs_whole:
            return NOTHING
        comparison: Comparison = await on_cpu(_comparison, call.runner, work, params)
        shown = comparison if params.compare else None
        if scorer is None:
            return GateReport(comparison=shown)
        scoring = await on_cpu(scorer.work_of, (comparison.source, comparison.result))
        del comparison  # unless it is shown: the device may take its time
        before, after = scorer.scores(await on_device(scorer, scoring))
        data, notes = _judged(before, after, params.post)
        return GateReport(data, notes, shown)


def compared(runner: Runner, work: Work, params: Params) -> GateReport:
    """The report on work that is compared at most, and not scored."""
    if not isinstance(params, GateParams) or not params.compare:
        return NOTHING
    return GateReport(comparison=_comparison(runner, work, params))


def _comparison(runner: Runner, work: Work, params: Params) -> Comparison:
    return cast("Compares", runner).comparison(work, params)


def _judged(before: float, after: float, post: Post) -> tuple[dict[str, Any], tuple[Note, ...]]:
    gain = round(after - before, DECIMALS)
    score = {"model": SCORER, "before": before, "after": after, "gain": gain}
    if post.min_gain is None:
        return {"score": score}, ()
    is_below = gain < post.min_gain
    score |= {"min_gain": post.min_gain, "below_min_gain": is_below}
    return {"score": score}, ("below_min_gain",) if is_below else ()


def with_report(product: Product, report: GateReport, output: OutputOptions, limits: LimitSettings) -> Product:
    """The product with what the gate adds to it: its files are encoded here."""
    if report is NOTHING:
        return product
    files = [] if report.comparison is None else _files(product, report.comparison, output, limits)
    return replace(
        product,
        data=(product.data or {}) | report.data or None,
        files=[*product.files, *files],
        notes=[*product.notes, *report.notes],
    )


def _files(
    product: Product, comparison: Comparison, output: OutputOptions, limits: LimitSettings
) -> Iterator[ProductFile]:
    """The image before, enlarged; that after, which is the result; and both side by side. A limit of bytes is that of
    the result alone."""
    output = replace(output, max_bytes=None)
    before = enlarged(comparison)
    yield _file("before", before, output)
    assert product.file is not None  # noqa: S101  such models make one file
    yield ProductFile(f"after.{product.extension}", product.file, product.content_type, product.width, product.height)
    most_px = min(SIDE_BY_SIDE_PX, int(limits.result_megapixels * 1e6))
    longest_px = MAX_SIDES.get(output.format, most_px)
    both = side_by_side(before, comparison.result, most_px=most_px, longest_px=longest_px)
    yield _file("side_by_side", both, output)


def _file(name: str, picture: Picture, output: OutputOptions) -> ProductFile:
    height, width = picture.rgb.shape[:2]
    content = encoding.encode(picture, output)
    return ProductFile(f"{name}.{output.format}", content, CONTENT_TYPES[output.format], width, height)
