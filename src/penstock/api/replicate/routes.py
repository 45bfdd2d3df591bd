"""/replicate/v1: the same tasks in Replicate's words, so that its clients work with another base URL.

Only the words differ: every request becomes one of ours, and is checked, queued, read and canceled as those are.
"""

from typing import Annotated

import msgspec
from litestar import get, post
from litestar.datastructures import State as AppState
from litestar.params import FromPath, HeaderParameter, QueryParameter

from penstock.api.http.auth import ApiRequest
from penstock.api.http.bodies import json_of
from penstock.api.http.contents import JSON, describe
from penstock.api.http.headers import wait_of
from penstock.api.http.problems import documented
from penstock.api.http.scopes import OPERATE, READ, SUBMIT
from penstock.api.replicate.predictions import (
    STATUS,
    PredictionPage,
    PredictionView,
    prediction_view,
    predictions_url,
    whole_view,
)
from penstock.api.replicate.requests import (
    ModelPredictionRequest,
    PredictionBody,
    PredictionRequest,
    in_their_words,
    submit_of,
)
from penstock.api.replicate.versions import model_of
from penstock.api.schemas.tasks import ResponseBody
from penstock.api.services import Services, ServicesDep
from penstock.api.submits import SUBMIT_ERRORS, CountingRefusals, call_of, cancel_task, submit_and_wait
from penstock.core.task import State, Task
from penstock.errors import InvalidRequest, ResultExpired, TaskAlreadyFinal, TaskNotFound, WebhooksDisabled
from penstock.intake.call import DURATION_PATTERN

PAGE = 100
"""How many predictions a page of Replicate has."""


class WebhookSecretView(ResponseBody, frozen=True):
    """The secret with which the receiver of a webhook checks its signature."""

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
    opt=SUBMIT | describe(body={JSON: PredictionRequest}),
    status_code=201,
    responses=documented(*SUBMIT_ERRORS),
)
async def create(
    request: ApiRequest, services: ServicesDep, prefer: Prefer = None, cancel_after: CancelAfter = None
) -> PredictionView:
    """Answers `starting` until the task has ended: the official client takes any other word for the end."""
    body = await json_of(request, PredictionRequest)
    with CountingRefusals(services):
        if not services.models.references:
            await services.models.look_for(body.version)
        model = model_of(body.version, services.models)
    return await _create(model.id, body, prefer, cancel_after, request, services)


@post(
    "/models/{owner:str}/{name:str}/predictions",
    operation_id="createModelPrediction",
    tags=["replicate"],
    summary="Create a prediction with the model of the path",
    opt=SUBMIT | describe(body={JSON: ModelPredictionRequest}),
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
    """The owner in the path may be any name and is ignored."""
    body = await json_of(request, ModelPredictionRequest)
    return await _create(name, body, prefer, cancel_after, request, services)


@post(
    "/deployments/{owner:str}/{name:str}/predictions",
    operation_id="createDeploymentPrediction",
    tags=["replicate"],
    summary="Create a prediction with the deployment of the path",
    opt=SUBMIT | describe(body={JSON: ModelPredictionRequest}),
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
    """Runs the model of the deployment, which has the same name."""
    body = await json_of(request, ModelPredictionRequest)
    return await _create(name, body, prefer, cancel_after, request, services)


@get(
    "/predictions/{prediction_id:str}",
    operation_id="getPrediction",
    tags=["replicate"],
    opt=READ,
    summary="Read a prediction",
    responses=documented(TaskNotFound, ResultExpired),
)
async def read(request: ApiRequest, services: ServicesDep, prediction_id: FromPath[str]) -> PredictionView:
    """Answers with the prediction as it is now, with a small output in it."""
    return await _whole(await services.store.tasks.get(prediction_id, request.auth.tenant), request, services)


@get(
    "/predictions",
    operation_id="listPredictions",
    tags=["replicate"],
    opt=READ,
    summary="List predictions, newest first",
    responses=documented(InvalidRequest),
)
async def list_predictions(
    request: ApiRequest,
    services: ServicesDep,
    state: AppState,
    cursor: Annotated[str | None, QueryParameter(format="cursor", description="from `next` of the page before")] = None,
) -> PredictionPage:
    """Lists all tasks, those of other dialects too. Here a file is always a URL, so that a page stays small."""
    before = None if cursor is None else state.cursors.read(cursor, request.auth.tenant)
    tenant = request.auth.tenant
    page = await services.store.listing.page(tenant, states=tuple(State), before=before, limit=PAGE)
    after = page.next_before
    base_url = str(request.base_url)
    return PredictionPage(
        next=None if after is None else f"{predictions_url(base_url)}?cursor={state.cursors.write(after, tenant)}",
        previous=None,
        results=tuple(prediction_view(task, base_url, state.output_links) for task in page.tasks),
    )


@post(
    "/predictions/{prediction_id:str}/cancel",
    operation_id="cancelPrediction",
    tags=["replicate"],
    opt=SUBMIT,
    summary="Cancel a prediction",
    status_code=200,
    responses=documented(TaskNotFound, ResultExpired),
)
async def cancel(request: ApiRequest, services: ServicesDep, prediction_id: FromPath[str]) -> PredictionView:
    """Leaves a prediction that has ended as it is."""
    try:
        task = await cancel_task(prediction_id, request, services)
    except TaskAlreadyFinal:
        task = await services.store.tasks.get(prediction_id, request.auth.tenant)
    return await _whole(task, request, services)


@get(
    "/webhooks/default/secret",
    operation_id="getWebhookSecret",
    tags=["replicate"],
    opt=OPERATE,
    summary="Read the secret that webhooks are signed with",
    description="Every delivery is signed with it: it is the first of webhooks.secrets. It is one for all tenants: "
    "whoever has it can write what every receiver takes for a delivery.",
    responses=documented(WebhooksDisabled),
    sync_to_thread=False,
)
def webhook_secret(services: ServicesDep) -> WebhookSecretView:
    """Answers with the secret that clients verify deliveries with."""
    secrets = services.settings.webhooks.secrets
    if not secrets:
        raise WebhooksDisabled("this server has no webhooks.secrets to sign with")
    return WebhookSecretView(key=secrets[0])


ROUTES = (create, create_of_model, create_of_deployment, read, list_predictions, cancel, webhook_secret)


async def _create(
    reference: str,
    body: PredictionBody,
    prefer: str | None,
    cancel_after: str | None,
    request: ApiRequest,
    services: Services,
) -> PredictionView:
    wait_s = None if prefer is None else wait_of(request.headers.getall("Prefer"))
    with in_their_words():
        with CountingRefusals(services):
            await services.models.look_for(reference)
            call = await call_of(
                submit_of(services.models.find(reference), body),
                request,
                services,
                cancel_after=cancel_after,
                wait_s=wait_s and held_s(wait_s),
                dialect="replicate",
            )
        receipt, task = await submit_and_wait(call, request, services)
    task = task or await services.store.tasks.get(receipt.submitted.id, request.auth.tenant)
    view = await _whole(task, request, services)
    return view if task.state.is_final else msgspec.structs.replace(view, status=STATUS[State.PENDING])


def held_s(wait_s: int) -> float:
    """Return for how many seconds an answer is held back when a client asks to wait for `wait_s`.

    It is a little less, because Replicate's Python client gives up half a second after its time, and would not know of
    the prediction that it has made.
    """
    return max(wait_s - 1, wait_s / 2)


async def _whole(task: Task, request: ApiRequest, services: Services) -> PredictionView:
    return await whole_view(task, str(request.base_url), request.app.state.output_links, services)
