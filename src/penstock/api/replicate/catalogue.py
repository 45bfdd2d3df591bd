"""/replicate/v1/models and /replicate/v1/deployments: the catalogue in Replicate's words.

Each model has one version, and is a deployment too. Owners are not looked at.
"""

import inspect
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
from litestar import get
from litestar.params import FromPath

from penstock.api.http.problems import documented
from penstock.api.replicate.predictions import OWNER, PREFIX, version_id
from penstock.api.schemas.render import moment
from penstock.api.schemas.tasks import Moment, OutputRequest, ResponseBody
from penstock.api.services import ApiRequest, Services, ServicesDep
from penstock.errors import InvalidRequest, ModelNotFound
from penstock.models.base import BaseModelRunner, registry
from penstock.store import WorkerInfo

Runner = type[BaseModelRunner[Any]]

LIST = "GET /replicate/v1/models lists them"

_VERSION = re.compile(r"[0-9a-f]{7,64}|v?[0-9]+(\.[0-9]+)*|latest")
"""What a version looks like: an id of Replicate, its beginning, or a number. Anything else is the name of a model."""

OUTPUTS: dict[str, dict[str, Any]] = {
    "image": {"type": "string", "format": "uri"},
    "data": {"type": "object"},
    "any": {},
}
"""The schema of a prediction's output by what the card of the model says that it produces."""


class ModelVersionView(ResponseBody, frozen=True):
    """A version; the schemas `Input` and `Output` of its `openapi_schema` say what it takes and gives. `created_at` is
    when its module was written."""

    id: str
    created_at: Moment
    cog_version: str
    openapi_schema: dict[str, Any]


class ReplicateModelView(ResponseBody, frozen=True):
    """A model of this server. Runs are not counted, and pages about it are not known here."""

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
    """All models, on one page."""

    next: str | None
    previous: str | None
    results: tuple[ReplicateModelView, ...]


class ModelVersionPage(ResponseBody, frozen=True):
    """All versions of a model, on one page."""

    next: str | None
    previous: str | None
    results: tuple[ModelVersionView, ...]


class DeploymentAccount(ResponseBody, frozen=True):
    """Who made a deployment."""

    type: Literal["user", "organization"]
    username: str
    name: str


class DeploymentConfiguration(ResponseBody, frozen=True):
    """The devices, and how many worker processes serve the model just now."""

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
    """A model by another name."""

    owner: str
    name: str
    current_release: ReleaseView


class DeploymentPage(ResponseBody, frozen=True):
    """All deployments, on one page."""

    next: str | None
    previous: str | None
    results: tuple[DeploymentView, ...]


@get("/models", operation_id="listReplicateModels", tags=["replicate"], summary="List models", sync_to_thread=False)
def list_models(request: ApiRequest, services: ServicesDep) -> ReplicateModelPage:
    """By name."""
    base_url = str(request.base_url)
    models = tuple(_model(registry()[name], base_url) for name in services.models)
    return ReplicateModelPage(next=None, previous=None, results=models)


@get(
    "/models/{owner:str}/{name:str}",
    operation_id="getReplicateModel",
    tags=["replicate"],
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
    """404 for one that is not served."""
    return _model(_served(name, services), str(request.base_url))


@get(
    "/models/{owner:str}/{name:str}/versions",
    operation_id="listModelVersions",
    tags=["replicate"],
    summary="List the versions of a model",
    responses=documented(ModelNotFound),
    sync_to_thread=False,
)
def list_versions(services: ServicesDep, owner: FromPath[str], name: FromPath[str]) -> ModelVersionPage:  # noqa: ARG001
    """There is one."""
    return ModelVersionPage(next=None, previous=None, results=(_version(_served(name, services)),))


@get(
    "/models/{owner:str}/{name:str}/versions/{version:str}",
    operation_id="getModelVersion",
    tags=["replicate"],
    summary="Read a version of a model",
    description="Any version will do: the answer is the one that is served, under the id that was asked for. Where no "
    "model has the name, it is of the model that a prediction with this version runs.",
    responses=documented(ModelNotFound),
    sync_to_thread=False,
)
def read_version(
    services: ServicesDep,
    owner: FromPath[str],  # noqa: ARG001  any will do
    name: FromPath[str],
    version: FromPath[str],
) -> ModelVersionView:
    """The Python client reads it after each run with a version, which it has sent without the name."""
    served = name if name in services.models else model_of(version, services.models)
    return msgspec.structs.replace(_version(registry()[served]), id=version)


@get("/deployments", operation_id="listDeployments", tags=["replicate"], summary="List deployments")
async def list_deployments(services: ServicesDep) -> DeploymentPage:
    """One for each model."""
    workers = await services.store.workers.listed()
    found = tuple(_deployment(registry()[name], workers) for name in services.models)
    return DeploymentPage(next=None, previous=None, results=found)


@get(
    "/deployments/{owner:str}/{name:str}",
    operation_id="getDeployment",
    tags=["replicate"],
    summary="Read a deployment",
    responses=documented(ModelNotFound),
)
async def read_deployment(services: ServicesDep, owner: FromPath[str], name: FromPath[str]) -> DeploymentView:  # noqa: ARG001
    """404 for a model that is not served."""
    return _deployment(_served(name, services), await services.store.workers.listed())


ROUTES = (list_models, read_model, list_versions, read_version, list_deployments, read_deployment)


def model_of(version: str, models: tuple[str, ...]) -> str:
    """The model that `version` of a prediction means: its name, alone or as owner/name or owner/name:version, or the
    id of its version. Both clients send the version alone, without its model: one that is not known here is taken for
    that of the only model that makes images.

    Raises ModelNotFound.
    """
    name = version.partition(":")[0].rpartition("/")[2]
    if name in models:
        return name
    by_id = {version_id(registry()[model]): model for model in models}
    if version in by_id:
        return by_id[version]
    if not _VERSION.fullmatch(version):
        raise ModelNotFound(f"no model {name} is served here; {LIST}", param="version")
    makers = [model for model in models if registry()[model].card.produces == "image"]
    if len(makers) != 1:
        raise ModelNotFound(
            f"no model here has the version {version}, and it comes without the name of its model; "
            f"use owner/name, or a version of this server: {LIST}",
            param="version",
        )
    return makers[0]


def fixed_inputs(runner: Runner, params: dict[str, Any]) -> dict[str, Any]:
    """Inputs of Replicate's upscalers that are no params of this model, with the one value that it can do: the factor
    by which it enlarges an image, and no repair of faces. Nothing for a model that does not say how large its images
    get, or whose params are wrong."""
    try:
        size = runner.output_size(1, 1, msgspec.convert(params, runner.params))
    except msgspec.ValidationError:
        return {}
    known = {} if size is None else {"scale": size[0], "face_enhance": False}
    return {name: value for name, value in known.items() if name not in runner.params.__struct_fields__}


def without_fixed(runner: Runner, inputs: dict[str, Any]) -> dict[str, Any]:
    """The inputs but for those that the model does anyway. Raises InvalidRequest for an input that is not known, and
    for a value that the model cannot do."""
    params = {name: value for name, value in inputs.items() if name in runner.params.__struct_fields__}
    fixed = fixed_inputs(runner, params)
    if unknown := [name for name in inputs if name not in params and name not in fixed]:
        known = ", ".join(_described(runner)["components"]["schemas"]["Input"]["properties"])
        raise InvalidRequest(f"{runner.name} has no such input; known are: {known}", param=f"params.{unknown[0][:100]}")
    for name, value in fixed.items():
        if inputs.get(name, value) != value:
            raise InvalidRequest(
                f"{runner.name} cannot do {_json(inputs[name])[:40]}: leave it out, or give {_json(value)}",
                param=f"params.{name}",
            )
    return {name: value for name, value in inputs.items() if name not in fixed}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _served(name: str, services: Services) -> Runner:
    if name not in services.models:
        raise ModelNotFound(f"no model {name} is served here; {LIST}")
    return registry()[name]


def _model(runner: Runner, base_url: str) -> ReplicateModelView:
    return ReplicateModelView(
        url=f"{base_url.rstrip('/')}{PREFIX}/models/{OWNER}/{runner.name}",
        owner=OWNER,
        name=runner.name,
        description=runner.card.title,
        visibility="private",
        is_official=False,
        github_url=None,
        paper_url=None,
        license_url=None,
        run_count=0,
        cover_image_url=None,
        default_example=None,
        latest_version=_version(runner),
    )


def _version(runner: Runner) -> ModelVersionView:
    return ModelVersionView(
        id=version_id(runner), created_at=_written(runner), cog_version="", openapi_schema=_described(runner)
    )


def _written(runner: Runner) -> str:
    return moment(int(Path(inspect.getfile(runner)).stat().st_mtime * 1000))


def _described(runner: Runner) -> dict[str, Any]:
    """An OpenAPI document of schemas alone, as Cog makes them."""
    (params, output), schemas = msgspec.json.schema_components(
        [runner.params, OutputRequest], ref_template="#/components/schemas/{name}"
    )
    own, written = (schemas.pop(ref["$ref"].rpartition("/")[2])["properties"] for ref in (params, output))
    of_file = {"output_format": written["format"], "output_quality": written["quality"]}
    fixed = {name: {"const": value, "default": value} for name, value in fixed_inputs(runner, {}).items()}
    image = {"type": "string", "format": "uri", "title": "Image"}
    schemas["Input"] = {
        "title": "Input",
        "type": "object",
        "properties": {"image": image} | own | fixed | (of_file if runner.card.produces != "data" else {}),
        "required": ["image"],
    }
    schemas["Output"] = {"title": "Output"} | OUTPUTS[runner.card.produces]
    return {
        "openapi": "3.1.0",
        "info": {"title": runner.card.title, "version": runner.card.version},
        "paths": {},
        "components": {"schemas": schemas},
    }


def _deployment(runner: Runner, workers: Sequence[WorkerInfo]) -> DeploymentView:
    own = [worker for worker in workers if runner.name in worker.models]
    return DeploymentView(
        owner=OWNER,
        name=runner.name,
        current_release=ReleaseView(
            number=1,
            model=f"{OWNER}/{runner.name}",
            version=version_id(runner),
            created_at=_written(runner),
            created_by=DeploymentAccount(type="organization", username=OWNER, name="Penstock"),
            configuration=DeploymentConfiguration(
                hardware=", ".join(sorted({worker.device for worker in own})),
                min_instances=len(own),
                max_instances=len(own),
            ),
        ),
    )
