"""/v1/models: the catalogue, from the registry."""

from typing import Any

import msgspec
from litestar import get
from litestar.params import FromPath

from penstock.api.problems import documented
from penstock.api.schemas import ModelList, ModelView
from penstock.api.services import Open
from penstock.errors import ModelNotFound
from penstock.runners.base import BaseModelRunner, registry


@get("/models", operation_id="listModels", tags=["models"], summary="The models that are served", sync_to_thread=False)
def list_models(services: Open) -> ModelList:
    """All of them, by name."""
    return ModelList(data=tuple(_view(registry()[name]) for name in services.models))


@get(
    "/models/{name:str}",
    operation_id="getModel",
    tags=["models"],
    summary="One model, with the JSON Schema of its params",
    responses=documented(ModelNotFound),
    sync_to_thread=False,
)
def read_model(name: FromPath[str], services: Open) -> ModelView:
    """404 for one that is not served."""
    if name not in services.models:
        raise ModelNotFound("no model of this name is served here; GET /v1/models lists them")
    return _view(registry()[name])


def _view(runner: type[BaseModelRunner[Any]]) -> ModelView:
    card = runner.card
    return ModelView(
        name=runner.name,
        title=card.title,
        version=card.version,
        licence=card.licence,
        source=card.source,
        produces=card.produces,
        notes=card.notes,
        params=msgspec.json.schema(runner.params),
    )
