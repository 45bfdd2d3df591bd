"""/replicate/v1: the same tasks in Replicate's words, so that its clients work with another base URL.

Words alone: every request becomes one of ours, and is checked, queued, read and canceled as those are.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated, Any, Literal

import msgspec
from litestar import get, post
from litestar.datastructures import State as AppState
from litestar.params import FromPath, HeaderParameter, QueryParameter
from msgspec import Meta

from penstock.api.http.auth import ApiRequest, require_json
from penstock.api.http.bodies import body_of
from penstock.api.http.contents import JSON, describe
from penstock.api.http.headers import wait_of
from penstock.api.http.problems import documented
from penstock.api.replicate.predictions import (
    STATUS,
    PredictionPage,
    PredictionView,
    prediction_view,
    predictions_url,
    whole_view,
)
from penstock.api.replicate.versions import model_of, params_in
from penstock.api.routes.tasks import SUBMIT_ERRORS, end_early, refusals_counted, take
from penstock.api.schemas.tasks import ResponseBody
from penstock.api.services import Services, ServicesDep
from penstock.core.events import EventType
from penstock.core.task import State, Task
from penstock.errors import (
    InvalidRequest,
    PenstockError,
    ResultExpired,
    TaskAlreadyFinal,
    TaskNotFound,
    WebhooksDisabled,
)
from penstock.intake.enqueue import DURATION_PATTERN, examine, read_request
from penstock.intake.parse import decode
from penstock.intake.requests import RequestBody
from penstock.models.base import registry

PAGE = 100
"""Predictions of one page, as there."""

IMAGE = ("image", "image_url")
OUTPUT = {"output_format": "format", "output_quality": "quality"}
FORMAT = {"jpg": "jpeg"}

PLACES = {
    "params": "input",
    "input.image_url": "input.image",
    "input.upload_id": "input.image",
    "output.format": "input.output_format",
    "output.quality": "input.output_quality",
    "webhook.url": "webhook",
}
"""Where a member of our submit stands in a prediction; what is in it stands there too."""

_FILE = re.compile(r"https?://[^?#]*/replicate/v1/files/(upl_[0-9a-f]{32})", re.IGNORECASE)

ENDS: tuple[EventType, ...] = ("succeeded", "failed", "canceled", "expired")
TOLD: dict[str, tuple[EventType, ...]] = {
    "start": ("progress",),
    "output": ("succeeded",),
    "logs": (),
    "completed": ENDS,
}
"""Events of ours by Replicate's word for them: nothing here writes logs, and the only output comes with the end."""

HookEvent = Literal["start", "output", "logs", "completed"]


class PredictionBody(RequestBody, frozen=True, kw_only=True):
    """What all predictions share. `input` has the image (http(s) URL, data: URI, or the URL of a file), `output_format`
    and `output_quality`; all else in it are params of the model, or inputs of Replicate's upscalers with the value that
    the model has anyway. The webhook is sent the prediction, signed, when it starts, gets on and has ended, or only at
    the events of the filter; `webhook_completed` is an older word for one that is told of the end only. No model
    streams: `stream` changes nothing."""

    input: dict[str, Any]
    webhook: Annotated[str, Meta(min_length=1, extra_json_schema={"format": "uri"})] | None = None
    webhook_completed: Annotated[str, Meta(min_length=1, extra_json_schema={"format": "uri"})] | None = None
    webhook_events_filter: tuple[HookEvent, ...] | None = None
    stream: bool | None = None


class PredictionRequest(PredictionBody, frozen=True, kw_only=True):
    """A prediction to run. `version` is the name of a model, alone or as owner/name or owner/name:version, where owner
    and version are not looked at, or the version of a model. A version that is not known here means the model that
    makes images, where only one does."""

    version: Annotated[str, Meta(min_length=1, max_length=256)]


class ModelPredictionRequest(PredictionBody, frozen=True):
    """The same for the model, or the deployment, that the path names."""


class WebhookSecretView(ResponseBody, frozen=True):
    """What the receiver of a webhook checks its signature with."""

    key: str


Prefer = Annotated[
    str | None, HeaderParameter(name="Prefer", description="wait or wait=n: seconds to wait for the end, 300 at most")
]
CancelAfter = Annotated[
    str | None,
    HeaderParameter(
        name="Cancel-After", description="90, 90s, 5m or 1h30m", schema_extra={"pattern": DURATION_PATTERN}
    ),
]


@post(
    "/predictions",
    operation_id="createPrediction",
    tags=["replicate"],
    summary="Create a prediction",
    middleware=[require_json],
    opt=describe(body={JSON: PredictionRequest}),
    status_code=201,
    responses=documented(*SUBMIT_ERRORS),
)
async def create(
    request: ApiRequest, services: ServicesDep, prefer: Prefer = None, cancel_after: CancelAfter = None
) -> PredictionView:
    """`starting` until it has ended: the official client takes any other word for the end."""
    asked = await _read(request, PredictionRequest)
    with refusals_counted(services.settings.api.rate_limit_per_minute):
        name = model_of(asked.version, services.models)
    return await _create(name, asked, prefer, cancel_after, request, services)


@post(
    "/models/{owner:str}/{name:str}/predictions",
    operation_id="createModelPrediction",
    tags=["replicate"],
    summary="Create a prediction with the model of the path",
    middleware=[require_json],
    opt=describe(body={JSON: ModelPredictionRequest}),
    status_code=201,
    responses=documented(*SUBMIT_ERRORS),
)
async def create_of_model(
    request: ApiRequest,
    services: ServicesDep,
    owner: FromPath[str],  # noqa: ARG001  any will do
    name: FromPath[str],
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
) -> PredictionView:
    """Any owner."""
    asked = await _read(request, ModelPredictionRequest)
    return await _create(name, asked, prefer, cancel_after, request, services)


@post(
    "/deployments/{owner:str}/{name:str}/predictions",
    operation_id="createDeploymentPrediction",
    tags=["replicate"],
    summary="Create a prediction with the deployment of the path",
    middleware=[require_json],
    opt=describe(body={JSON: ModelPredictionRequest}),
    status_code=201,
    responses=documented(*SUBMIT_ERRORS),
)
async def create_of_deployment(
    request: ApiRequest,
    services: ServicesDep,
    owner: FromPath[str],  # noqa: ARG001  any will do
    name: FromPath[str],
    prefer: Prefer = None,
    cancel_after: CancelAfter = None,
) -> PredictionView:
    """A deployment is the model of the same name."""
    asked = await _read(request, ModelPredictionRequest)
    return await _create(name, asked, prefer, cancel_after, request, services)


@get(
    "/predictions/{prediction_id:str}",
    operation_id="getPrediction",
    tags=["replicate"],
    summary="Read a prediction",
    responses=documented(TaskNotFound, ResultExpired),
)
async def read(request: ApiRequest, services: ServicesDep, prediction_id: FromPath[str]) -> PredictionView:
    """As it is now, with a small output in it."""
    return await _whole(await services.store.tasks.get(prediction_id, request.auth.tenant), request, services)


@get(
    "/predictions",
    operation_id="listPredictions",
    tags=["replicate"],
    summary="List predictions, newest first",
    responses=documented(InvalidRequest),
)
async def list_predictions(
    request: ApiRequest,
    services: ServicesDep,
    state: AppState,
    cursor: Annotated[str | None, QueryParameter(format="cursor", description="`next` of a page has it")] = None,
) -> PredictionPage:
    """Tasks that came in other words are among them. A file is always a URL here: a page is to stay small."""
    before = None if cursor is None else state.cursors.read(cursor)
    page = await services.store.listing.page(request.auth.tenant, states=tuple(State), before=before, limit=PAGE)
    after = page.next_before
    base_url = str(request.base_url)
    return PredictionPage(
        next=None if after is None else f"{predictions_url(base_url)}?cursor={state.cursors.write(after)}",
        previous=None,
        results=tuple(prediction_view(task, base_url, state.output_links) for task in page.tasks),
    )


@post(
    "/predictions/{prediction_id:str}/cancel",
    operation_id="cancelPrediction",
    tags=["replicate"],
    summary="Cancel a prediction",
    status_code=200,
    responses=documented(TaskNotFound, ResultExpired),
)
async def cancel(request: ApiRequest, services: ServicesDep, prediction_id: FromPath[str]) -> PredictionView:
    """One that has ended stays as it is."""
    try:
        task = await end_early(prediction_id, request, services)
    except TaskAlreadyFinal:
        task = await services.store.tasks.get(prediction_id, request.auth.tenant)
    return await _whole(task, request, services)


@get(
    "/webhooks/default/secret",
    operation_id="getWebhookSecret",
    tags=["replicate"],
    summary="Read the secret that webhooks are signed with",
    description="The first of webhooks.secrets; every delivery is signed by it. Whoever has an API key may read it.",
    responses=documented(WebhooksDisabled),
    sync_to_thread=False,
)
def webhook_secret(services: ServicesDep) -> WebhookSecretView:
    """The clients verify deliveries with it."""
    secrets = services.settings.webhooks.secrets
    if not secrets:
        raise WebhooksDisabled("this server has no webhooks.secrets to sign with")
    return WebhookSecretView(key=secrets[0])


ROUTES = (create, create_of_model, create_of_deployment, read, list_predictions, cancel, webhook_secret)


async def _read(request: ApiRequest, of: type[Any]) -> Any:
    return decode(await body_of(request), of)


async def _create(
    model: str,
    given: PredictionBody,
    prefer: str | None,
    cancel_after: str | None,
    request: ApiRequest,
    services: Services,
) -> PredictionView:
    with refusals_counted(services.settings.api.rate_limit_per_minute), _in_their_words():
        asked = read_request(
            msgspec.json.encode(_ours(model, given)),
            idempotency_key=None,
            cancel_after=cancel_after,
            cache_control=None,
            models=services.models,
        )
        base_url = str(request.base_url)
        examined = await examine(asked, services, request.auth, base_url=base_url, dialect="replicate")
    wait_s = None if prefer is None else wait_of(request.headers.getall("Prefer"))
    submitted, task = await take(asked, examined, wait_s and held_s(wait_s), request, services)
    task = task or await services.store.tasks.get(submitted.id, request.auth.tenant)
    view = await _whole(task, request, services)
    return view if task.state.is_final else msgspec.structs.replace(view, status=STATUS[State.PENDING])


def held_s(wait_s: int) -> float:
    """Seconds to hold an answer for a client that asks to wait so long: a little less, since Replicate's Python client
    gives up half a second after its time, and would not know of the prediction that it has made."""
    return max(wait_s - 1, wait_s / 2)


async def _whole(task: Task, request: ApiRequest, services: Services) -> PredictionView:
    return await whole_view(task, str(request.base_url), request.app.state.output_links, services)


def _ours(model: str, asked: PredictionBody) -> dict[str, Any]:
    """The body of a submit; what is wrong with a value is found there."""
    given = {name: value for name, value in asked.input.items() if value is not None}
    places = [name for name in IMAGE if name in given]
    if len(places) != 1:
        raise InvalidRequest("give one image: an http(s) URL, a data: URI or a file", param="input.image_url")
    output = {ours: given[theirs] for theirs, ours in OUTPUT.items() if theirs in given}
    if isinstance(output.get("format"), str):
        output["format"] = FORMAT.get(output["format"], output["format"])
    params = {name: value for name, value in given.items() if name not in (*IMAGE, *OUTPUT)}
    if model in registry():
        params = params_in(registry()[model], params)
    body = {"model": model, "input": _source(given[places[0]]), "params": params, "output": output}
    return body | {"webhook": _webhook(asked)}


def _source(image: Any) -> dict[str, Any]:
    """The URL of a file means the upload that has its bytes."""
    file = _FILE.fullmatch(image) if isinstance(image, str) else None
    return {"upload_id": file[1].lower()} if file else {"image_url": image}


def _webhook(asked: PredictionBody) -> dict[str, Any] | None:
    if asked.webhook is None and asked.webhook_completed is not None:
        return {"url": asked.webhook_completed, "events": ENDS}
    words = TOLD if asked.webhook_events_filter is None else asked.webhook_events_filter
    events = list(dict.fromkeys(event for word in words for event in TOLD[word]))
    return {"url": asked.webhook, "events": events} if asked.webhook is not None and events else None


@contextmanager
def _in_their_words() -> Iterator[None]:
    """Errors inside name the member of the prediction, also in their text: it is all that the Python client shows."""
    try:
        yield
    except PenstockError as error:
        if error.param is not None:
            error.param = _place(error.param)
            error.detail = f"{error.param}: {error.detail}"
        raise


def _place(param: str) -> str:
    for ours, theirs in PLACES.items():
        if param == ours or param.startswith(f"{ours}."):
            return theirs + param.removeprefix(ours)
    return param
