"""/replicate/v1/models and /replicate/v1/deployments: the catalogue in Replicate's words.

Each model is a deployment too. Paths name an owner, but any owner will do.
"""

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from litestar import get
from litestar.params import FromPath

from penstock.api.http.auth import ApiRequest
from penstock.api.http.problems import documented
from penstock.api.http.scopes import READ
from penstock.api.replicate.predictions import OWNER, PREFIX
from penstock.api.replicate.versions import LIST, model_of, openapi_of, version_id
from penstock.api.schemas.render import moment
from penstock.api.schemas.tasks import Moment, ResponseBody
from penstock.api.services import Services, ServicesDep
from penstock.errors import ModelNotFound
from penstock.store import PublishedModel, WorkerInfo


class ModelVersionView(ResponseBody, frozen=True):
    """A version of a model; the schemas `Input` and `Output` in `openapi_schema` describe what it takes and gives.
    `created_at` is when the version came to this server."""

    id: str
    created_at: Moment
    cog_version: str
    openapi_schema: dict[str, Any]


class ReplicateModelView(ResponseBody, frozen=True):
    """A model of this server. Runs are not counted, and the server knows no pages about it."""

    url: str
    owner: str
    name: str
    description: str
    visibility: Literal["public", "private"]
    is_official: bool
    github_url: str | None
    paper_url: str | None
    license_url: str | None
    run_count: int
    cover_image_url: str | None
    default_example: dict[str, Any] | None
    latest_version: ModelVersionView


class ReplicateModelPage(ResponseBody, frozen=True):
    """A page with all models."""

    next: str | None
    previous: str | None
    results: tuple[ReplicateModelView, ...]


class ModelVersionPage(ResponseBody, frozen=True):
    """A page with all versions of a model."""

    next: str | None
    previous: str | None
    results: tuple[ModelVersionView, ...]


class DeploymentAccount(ResponseBody, frozen=True):
    """The account that made a deployment."""

    type: Literal["user", "organization"]
    username: str
    name: str


class DeploymentConfiguration(ResponseBody, frozen=True):
    """The devices that serve the model, and the number of worker processes that serve it now."""

    hardware: str
    min_instances: int
    max_instances: int


class ReleaseView(ResponseBody, frozen=True):
    """The only release of a deployment."""

    number: int
    model: str
    version: str
    created_at: Moment
    created_by: DeploymentAccount
    configuration: DeploymentConfiguration


class DeploymentView(ResponseBody, frozen=True):
    """A deployment, which is a model under another name."""

    owner: str
    name: str
    current_release: ReleaseView


class DeploymentPage(ResponseBody, frozen=True):
    """A page with all deployments."""

    next: str | None
    previous: str | None
    results: tuple[DeploymentView, ...]


@get(
    "/models",
    operation_id="listReplicateModels",
    opt=READ,
    tags=["replicate"],
    summary="List models",
    sync_to_thread=False,
)
def list_models(request: ApiRequest, services: ServicesDep) -> ReplicateModelPage:
    """Lists the models by name."""
    base_url = str(request.base_url)
    models = tuple(_model(name, services, base_url) for name in services.models.names())
    return ReplicateModelPage(next=None, previous=None, results=models)


@get(
    "/models/{owner:str}/{name:str}",
    operation_id="getReplicateModel",
    tags=["replicate"],
    opt=READ,
    summary="Read a model",
    responses=documented(ModelNotFound),
    sync_to_thread=False,
)
def read_model(
    request: ApiRequest,
    services: ServicesDep,
    owner: FromPath[str],  # noqa: ARG001  any will do
    name: FromPath[str],
) -> ReplicateModelView:
    """Answers 404 for a model that is not served."""
    return _model(_served(name, services), services, str(request.base_url))


@get(
    "/models/{owner:str}/{name:str}/versions",
    operation_id="listModelVersions",
    tags=["replicate"],
    opt=READ,
    summary="List the versions of a model",
    responses=documented(ModelNotFound),
    sync_to_thread=False,
)
def list_versions(services: ServicesDep, owner: FromPath[str], name: FromPath[str]) -> ModelVersionPage:  # noqa: ARG001
    """Lists the versions of the model, those first that came first."""
    versions = services.models.versions_of(_served(name, services))
    return ModelVersionPage(next=None, previous=None, results=tuple(map(_version, versions)))


@get(
    "/models/{owner:str}/{name:str}/versions/{version:str}",
    operation_id="getModelVersion",
    tags=["replicate"],
    opt=READ,
    summary="Read a version of a model",
    description="Any version will do: for one that the model does not have, the answer describes its default version, "
    "under the id of the request. If no model has the name, it describes the model that a prediction with this version "
    "would run.",
    responses=documented(ModelNotFound),
    sync_to_thread=False,
)
def read_version(
    services: ServicesDep,
    owner: FromPath[str],  # noqa: ARG001  any will do
    name: FromPath[str],
    version: FromPath[str],
) -> ModelVersionView:
    """Serves the Python client, which reads the version after each run, without the name of its model."""
    models = services.models
    served = model_of(f"{name}:{version}" if name in models.names() else version, models)
    return msgspec.structs.replace(_version(models.published(served)), id=version)


@get("/deployments", operation_id="listDeployments", opt=READ, tags=["replicate"], summary="List deployments")
async def list_deployments(services: ServicesDep) -> DeploymentPage:
    """Lists one deployment for each model."""
    workers = await services.store.workers.listed()
    found = tuple(_deployment(name, services, workers) for name in services.models.names())
    return DeploymentPage(next=None, previous=None, results=found)


@get(
    "/deployments/{owner:str}/{name:str}",
    operation_id="getDeployment",
    tags=["replicate"],
    opt=READ,
    summary="Read a deployment",
    responses=documented(ModelNotFound),
)
async def read_deployment(services: ServicesDep, owner: FromPath[str], name: FromPath[str]) -> DeploymentView:  # noqa: ARG001
    """Answers 404 for a model that is not served."""
    return _deployment(_served(name, services), services, await services.store.workers.listed())


ROUTES = (list_models, read_model, list_versions, read_version, list_deployments, read_deployment)


def _served(name: str, services: Services) -> str:
    if name not in services.models.names():
        raise ModelNotFound(f"no model {name} is served here; {LIST}")
    return name


def _model(name: str, services: Services, base_url: str) -> ReplicateModelView:
    default = services.models.find(name)
    return ReplicateModelView(
        url=f"{base_url.rstrip('/')}{PREFIX}/models/{OWNER}/{name}",
        owner=OWNER,
        name=name,
        description=default.title,
        visibility="private",
        is_official=False,
        github_url=None,
        paper_url=None,
        license_url=None,
        run_count=0,
        cover_image_url=None,
        default_example=None,
        latest_version=_version(services.models.published(default)),
    )


def _version(published: PublishedModel) -> ModelVersionView:
    model = published.model
    return ModelVersionView(
        id=version_id(model.name, model.digest),
        created_at=_created(published),
        cog_version="",
        openapi_schema=openapi_of(model),
    )


def _created(published: PublishedModel) -> str:
    return moment(published.first // 1000)


def _deployment(name: str, services: Services, workers: Sequence[WorkerInfo]) -> DeploymentView:
    default = services.models.find(name)
    own = [worker for worker in workers if default.id in worker.models]
    return DeploymentView(
        owner=OWNER,
        name=name,
        current_release=ReleaseView(
            number=1,
            model=f"{OWNER}/{name}",
            version=version_id(name, default.digest),
            created_at=_created(services.models.published(default)),
            created_by=DeploymentAccount(type="organization", username=OWNER, name="Penstock"),
            configuration=DeploymentConfiguration(
                hardware=", ".join(sorted({worker.device for worker in own})),
                min_instances=len(own),
                max_instances=len(own),
            ),
        ),
    )
