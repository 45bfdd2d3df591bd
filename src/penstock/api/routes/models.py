"""/v1/models: the models that are served, where their versions are loaded, and what operators do to versions."""

from litestar import get, post, put
from litestar.params import FromPath

from penstock.api.auditing import AuditedAct, write_down
from penstock.api.http.auth import ApiRequest
from penstock.api.http.bodies import json_of
from penstock.api.http.contents import JSON, describe
from penstock.api.http.problems import documented
from penstock.api.http.scopes import OPERATE, READ
from penstock.api.schemas.models import DefaultVersionRequest, ModelList, ModelView
from penstock.api.schemas.render_models import model_list, model_view
from penstock.api.services import Services, ServicesDep
from penstock.core.model import Model
from penstock.errors import InvalidRequest, MalformedRequest, ModelNotFound, NotReady, UnsupportedMediaType
from penstock.intake.residence import residents
from penstock.store.models import Act

OF_WORKERS = "A model in code is loaded as long as its workers run: for such a one the answer is 422. "
REPEATED = "It can be repeated safely."
WRITTEN_AS: dict[Act, AuditedAct] = {"load": "model.load", "unload": "model.unload"}


@get("/models", operation_id="listModels", opt=READ, tags=["models"], summary="The models that are served")
async def list_models(services: ServicesDep) -> ModelList:
    """Lists the models by name, each with its versions and where they are loaded."""
    return model_list(services.models, await services.store.workers.listed(), services.settings)


@get(
    "/models/{name:str}",
    operation_id="getModel",
    tags=["models"],
    opt=READ,
    summary="One model, with the JSON Schema of its params",
    responses=documented(ModelNotFound, NotReady),
)
async def read_model(name: FromPath[str], services: ServicesDep) -> ModelView:
    """Answers 404 for a model that is not served. `name@version` describes that version."""
    await services.models.look_for(name)
    return await _view(name, services)


@put(
    "/models/{name:str}/default",
    operation_id="setDefaultVersion",
    tags=["models"],
    summary="Make a version of a model the default one",
    description="From the answer on, the bare name of the model means this version. Tasks that were submitted before "
    "run on the version that they were submitted for. A version that no worker could load is refused until one has "
    "loaded it. " + REPEATED,
    opt=OPERATE | describe(body={JSON: DefaultVersionRequest}),
    status_code=200,
    responses=documented(MalformedRequest, ModelNotFound, UnsupportedMediaType, InvalidRequest, NotReady),
)
async def set_default(request: ApiRequest, services: ServicesDep, name: FromPath[str]) -> ModelView:
    """Answers the model as it is now."""
    version = (await json_of(request, DefaultVersionRequest)).version
    await _refuse_failed(await _found(f"{name}@{version}", services), services)
    await services.home.models.set_default(name, version)
    await services.models.read()
    await write_down("model.default", name, request, services, version=version)
    return await _view(name, services)


@post(
    "/models/{name:str}/load",
    operation_id="loadModel",
    tags=["models"],
    opt=OPERATE,
    summary="Load a version of a model on every worker",
    description="`name@version` is that version, the bare name the default one. The answer does not wait: `versions` "
    "says how far each worker is. Where it does not fit, the version that was used longest ago makes room. "
    + OF_WORKERS
    + REPEATED,
    status_code=202,
    responses=documented(ModelNotFound, InvalidRequest, NotReady),
)
async def load(request: ApiRequest, services: ServicesDep, name: FromPath[str]) -> ModelView:
    """Answers the model as it is now."""
    return await _tell("load", name, request, services)


@post(
    "/models/{name:str}/unload",
    operation_id="unloadModel",
    tags=["models"],
    opt=OPERATE,
    summary="Unload a version of a model on every worker",
    description="`name@version` is that version, the bare name the default one. Tasks that run on it end first; a task "
    "that comes later loads it again. " + OF_WORKERS + REPEATED,
    status_code=202,
    responses=documented(ModelNotFound, InvalidRequest, NotReady),
)
async def unload(request: ApiRequest, services: ServicesDep, name: FromPath[str]) -> ModelView:
    """Answers the model as it is now."""
    return await _tell("unload", name, request, services)


async def _tell(act: Act, reference: str, request: ApiRequest, services: Services) -> ModelView:
    model = await _found(reference, services)
    if not model.versioned:
        raise InvalidRequest(f"{model.name} is a part of its workers: it is loaded as long as they run", param="name")
    if not residents(model.id, await services.store.workers.listed()):
        raise NotReady(f"no worker that is READY has {model.id}", retry_after_s=1)
    await services.home.models.tell(act, model.id)
    await write_down(WRITTEN_AS[act], model.id, request, services)
    return await _view(reference, services)


async def _refuse_failed(model: Model, services: Services) -> None:
    found = residents(model.id, await services.store.workers.listed())
    if found and all(residence.state == "failed" for _, residence in found):
        told = f"no worker could load {model.id}: {found[0][1].reason}; when it is mended, load it first"
        raise InvalidRequest(told, param="version")


async def _found(reference: str, services: Services) -> Model:
    await services.models.look_for(reference)
    return services.models.find(reference)


async def _view(reference: str, services: Services) -> ModelView:
    workers = await services.store.workers.listed()
    model = services.models.find(reference)  # only now: it may have been removed meanwhile
    return model_view(model, services.models, workers, services.settings)
