"""Views of models, from what is published of them and what the workers say."""

from collections.abc import Sequence

from penstock.api.schemas.models import (
    ExampleAnswerView,
    ExampleView,
    FaultyModelView,
    LimitsView,
    MemberView,
    ModelList,
    ModelView,
    RangeView,
    ResidenceView,
    VersionView,
)
from penstock.api.schemas.render import moment
from penstock.core.model import Model, Residence, ResidenceState, split_id
from penstock.intake.models import Catalogue
from penstock.intake.residence import Resident, differing, residents
from penstock.pixels.headers import MEDIA_TYPES
from penstock.settings import Settings
from penstock.store import PublishedModel, WorkerInfo

BEST_FIRST: tuple[ResidenceState, ...] = ("ready", "loading", "evicted", "cold", "failed")


def model_list(models: Catalogue, workers: Sequence[WorkerInfo], settings: Settings) -> ModelList:
    """Return all models by name."""
    faulty = {
        (worker.id, model_id): residence
        for worker in workers
        for model_id, residence in worker.residence.items()
        if residence.state == "failed" and model_id not in models.ids() and models.serves(*split_id(model_id))
    }
    return ModelList(
        data=tuple(model_view(model, models, workers, settings) for model in models.defaults()),
        faulty=tuple(_faulty(worker, model_id, found) for (worker, model_id), found in sorted(faulty.items())),
    )


def model_view(model: Model, models: Catalogue, workers: Sequence[WorkerInfo], settings: Settings) -> ModelView:
    """Return a model as this version describes it, with all its versions."""
    default = models.find(model.name)
    versions = {one.model.id: _version(one, default, workers) for one in models.versions_of(model.name)}
    low, high = model.score_range or (0.0, 0.0)
    has_image = any(member.kind == "image" for member in model.inputs.values())
    return ModelView(
        name=model.name,
        title=model.title,
        version=model.version,
        versions=tuple(versions.values()),
        state=versions[model.id].state,
        guessed=model.guessed,
        licence=model.licence,
        source=model.source,
        produces=model.produces,
        score_range=None if model.score_range is None else RangeView(minimum=low, maximum=high),
        limits=LimitsView(
            input_formats=MEDIA_TYPES if has_image else (),
            input_bytes=settings.limits.max_input_bytes,
            input_megapixels=settings.limits.max_image_megapixels,
            timeout_s=settings.worker.task_timeout_s,
        ),
        notes=model.notes,
        params=model.params,
        inputs=_members(model),
        example=_example(model),
    )


def _version(published: PublishedModel, default: Model, workers: Sequence[WorkerInfo]) -> VersionView:
    model = published.model
    found = residents(model.id, workers)
    states = {residence.state for _, residence in found}
    return VersionView(
        version=model.version,
        digest=model.digest,
        is_default=model is default,
        published_at=moment(published.first // 1000),
        state=next((state for state in BEST_FIRST if state in states), None),
        workers=tuple(_residence(one) for one in found),
        guessed=model.guessed,
        differs=differing(model.id, workers),
    )


def _residence(found: Resident) -> ResidenceView:
    worker, residence = found
    return ResidenceView(
        worker=worker.id,
        device=worker.device,
        state=residence.state,
        since=moment(residence.since) if residence.since else None,
        memory_bytes=residence.memory_bytes,
        reason=residence.reason,
    )


def _members(model: Model) -> dict[str, MemberView]:
    return {
        name: MemberView(
            kind=member.kind,
            required=member.required,
            description=member.description,
            media_types=member.media_types,
            schema=member.schema,
        )
        for name, member in model.inputs.items()
    }


def _example(model: Model) -> ExampleView | None:
    example = model.example
    if example is None:
        return None
    return ExampleView(
        request={"model": model.id, "input": example.input} | ({"params": example.params} if example.params else {}),
        answer=ExampleAnswerView(data=example.data, files=example.files),
    )


def _faulty(worker: str, model_id: str, residence: Residence) -> FaultyModelView:
    name, version = split_id(model_id)
    return FaultyModelView(name=name, version=version, worker=worker, reason=residence.reason)
