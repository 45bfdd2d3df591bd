"""/v1/models: the catalogue of the models that are served."""

from typing import Any

import msgspec
from litestar import get
from litestar.params import FromPath

from penstock.api.http.problems import documented
from penstock.api.schemas.operators import LimitsView, ModelList, ModelView, RangeView, VersionView
from penstock.api.services import ServicesDep
from penstock.errors import ModelNotFound
from penstock.models.base import BaseModelRunner, registry, results_digest
from penstock.settings import Settings

FORMATS = ("image/png", "image/jpeg", "image/webp")


@get("/models", operation_id="listModels", tags=["models"], summary="The models that are served", sync_to_thread=False)
def list_models(services: ServicesDep) -> ModelList:
    """Lists the models by name."""
    return ModelList(data=tuple(_view(registry()[name], services.settings) for name in services.models))


@get(
    "/models/{name:str}",
    operation_id="getModel",
    tags=["models"],
    summary="One model, with the JSON Schema of its params",
    responses=documented(ModelNotFound),
    sync_to_thread=False,
)
def read_model(name: FromPath[str], services: ServicesDep) -> ModelView:
    """Answers 404 for a model that is not served."""
    if name not in services.models:
        raise ModelNotFound("no model of this name is served here; GET /v1/models lists them")
    return _view(registry()[name], services.settings)


def _view(runner: type[BaseModelRunner[Any]], settings: Settings) -> ModelView:
    card = runner.card
    low, high = card.score_range or (0.0, 0.0)
    return ModelView(
        name=runner.name,
        title=card.title,
        version=card.version,
        versions=(VersionView(version=card.version, digest=results_digest(runner)),),
        licence=card.licence,
        source=card.source,
        produces=card.produces,
        score_range=None if card.score_range is None else RangeView(minimum=low, maximum=high),
        limits=LimitsView(
            input_formats=FORMATS,
            input_bytes=settings.limits.max_input_bytes,
            input_megapixels=settings.limits.max_image_megapixels,
            timeout_s=settings.worker.task_timeout_s,
        ),
        notes=card.notes,
        params=msgspec.json.schema(runner.params),
    )
