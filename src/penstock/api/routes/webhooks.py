"""Webhooks at the API: who may ask for one, what it is sent, and sending it again."""

import msgspec
from litestar import Response, post
from litestar.params import FromPath

from penstock.api.http.problems import documented
from penstock.api.replicate.predictions import STATUS, OutputLinks, prediction_view
from penstock.api.schemas.batches import BatchWebhookRequest, batch_view
from penstock.api.schemas.render import links, moment, task_view
from penstock.api.schemas.tasks import TaskView, WebhookRequest
from penstock.api.services import ApiRequest, Services, ServicesDep
from penstock.core.batch import Batch
from penstock.core.task import Dialect, Event, State, Task, Webhook
from penstock.errors import TaskNotFound, UrlBlocked, WebhookNotFound, WebhooksDisabled
from penstock.net.guard import check_url
from penstock.storage import Storage
from penstock.webhooks import Body

MAX_BODY_BYTES = 20_000
"""Standard Webhooks: payloads below 20 kB."""


@post(
    "/tasks/{task_id:str}/webhook/redeliver",
    operation_id="redeliverWebhook",
    tags=["tasks"],
    summary="Tell the webhook again",
    description="The last event of the task is delivered again, with all its tries and its old `webhook-id`.",
    status_code=202,
    responses=documented(TaskNotFound, WebhookNotFound),
)
async def redeliver(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> Response[TaskView]:
    """404 also when nothing has happened yet that it is told."""
    await services.patient_store.outbox.redeliver(task_id, request.auth.tenant)
    task = await services.store.tasks.get(task_id, request.auth.tenant)
    return Response(await task_view(task, services.storage, str(request.base_url)), status_code=202)


def accepted(
    asked: WebhookRequest | BatchWebhookRequest | None, services: Services, base_url: str, dialect: Dialect = "penstock"
) -> Webhook | None:
    """The webhook of a new task or batch, its URL checked as far as its text goes.

    Raises WebhooksDisabled, UrlBlocked.
    """
    if asked is None:
        return None
    if not services.settings.webhooks.secrets:
        raise WebhooksDisabled("this server has no webhooks.secrets to sign with", param="webhook")
    try:
        url = check_url(asked.url, services.webhook_policy)
    except UrlBlocked as error:
        error.param = "webhook.url"
        raise
    return Webhook(url=url, events=asked.events, base_url=base_url, dialect=dialect)


def body_of(storage: Storage, output_links: OutputLinks) -> Body:
    """What an event says: the task or batch as a client reads it, or, if that is too long or not true of the event
    any more, what is needed to read it."""

    async def body(subject: Task | Batch, event: Event, webhook: Webhook) -> str:
        return _of_batch(subject, event) if isinstance(subject, Batch) else await _of_task(subject, event, webhook)

    async def _of_task(task: Task, event: Event, webhook: Webhook) -> str:
        if webhook.dialect == "replicate":
            return _prediction(task, event, webhook, output_links).decode()
        about = {"type": f"task.{event.type}", "timestamp": moment(event.at)}
        if event.type == "progress" or event.what == task.state:
            view = msgspec.to_builtins(await task_view(task, storage, webhook.base_url))
            del view["webhook"]
            whole = msgspec.json.encode(about | {"data": view | {"sequence": event.seq}})
            if len(whole) < MAX_BODY_BYTES:
                return whole.decode()
        thin = {
            "task_id": task.id,
            "client_request_id": task.request.client_request_id,
            "status": task.state if event.type == "progress" else event.what,
            "links": msgspec.to_builtins(links(task.id)),
            "sequence": event.seq,
        }
        return msgspec.json.encode(about | {"data": thin}).decode()

    return body


def _prediction(task: Task, event: Event, webhook: Webhook, output_links: OutputLinks) -> bytes:
    """The prediction alone, which is as short as its params, with the URL of its file; if it has been run again since,
    with the end it had."""
    view = prediction_view(task, webhook.base_url, output_links)
    if event.type != "progress" and event.what != task.state:
        ended = {"status": STATUS[State(event.what)], "completed_at": moment(event.at)}
        view = msgspec.structs.replace(view, output=None, error=None, metrics={}, **ended)
    return msgspec.json.encode(view)


def _of_batch(batch: Batch, event: Event) -> str:
    about = {"type": f"batch.{event.type}", "timestamp": moment(event.at)}
    view = msgspec.to_builtins(batch_view(batch))
    del view["webhook"]
    data = view | {"sequence": event.seq}
    if event.what != batch.state or len(msgspec.json.encode(about | {"data": data})) >= MAX_BODY_BYTES:
        data = {name: view[name] for name in ("batch_id", "client_request_id", "links")}
        data |= {"status": event.what, "sequence": event.seq}
    return msgspec.json.encode(about | {"data": data}).decode()
