"""/v1/models: the catalogue of the models that are served."""

from litestar import get
from litestar.params import FromPath

from penstock.api.http.problems import documented
from penstock.api.schemas.operators import LimitsView, ModelList, ModelView, RangeView, VersionView
from penstock.api.services import Services, ServicesDep
from penstock.core.model import Model
from penstock.errors import ModelNotFound, NotReady

FORMATS = ("image/png", "image/jpeg", "image/webp")


@get("/models", operation_id="listModels", tags=["models"], summary="The models that are served", sync_to_thread=False)
def list_models(services: ServicesDep) -> ModelList:
    """Lists the models by name."""
    return ModelList(data=tuple(_view(model, services) for model in services.models.defaults()))


@get(
    "/models/{name:str}",
    operation_id="getModel",
    tags=["models"],
    summary="One model, with the JSON Schema of its params",
    responses=documented(ModelNotFound, NotReady),
    sync_to_thread=False,
)
def read_model(name: FromPath[str], services: ServicesDep) -> ModelView:
    """Answers 404 for a model that is not served."""
    return _view(services.models.find(name), services)


def _view(model: Model, services: Services) -> ModelView:
    low, high = model.score_range or (0.0, 0.0)
    limits = services.settings.limits
    return ModelView(
        name=model.name,
        title=model.title,
        version=model.version,
        versions=tuple(
            VersionView(version=one.model.version, digest=one.model.digest)
            for one in services.models.versions_of(model.name)
        ),
        licence=model.licence,
        source=model.source,
        produces=model.produces,
        score_range=None if model.score_range is None else RangeView(minimum=low, maximum=high),
        limits=LimitsView(
            input_formats=FORMATS,
            input_bytes=limits.max_input_bytes,
            input_megapixels=limits.max_image_megapixels,
            timeout_s=services.settings.worker.task_timeout_s,
        ),
        notes=model.notes,
        params=model.params,
    )
