"""/v1/tasks/{id}/webhook: who may ask for a webhook, and how its last event is delivered again."""

from litestar import Response, post
from litestar.params import FromPath

from penstock.api.http.auth import ApiRequest
from penstock.api.http.problems import documented
from penstock.api.schemas.render import task_view
from penstock.api.schemas.tasks import TaskView
from penstock.api.services import Services, ServicesDep
from penstock.core.events import Dialect, Webhook
from penstock.errors import TaskNotFound, UrlBlocked, WebhookNotFound, WebhooksDisabled
from penstock.intake.requests import BatchWebhookRequest, WebhookRequest
from penstock.net.guard import check_url


@post(
    "/tasks/{task_id:str}/webhook/redeliver",
    operation_id="redeliverWebhook",
    tags=["tasks"],
    summary="Redeliver the last event of a task",
    description="Delivers the last event again, under its `webhook-id`, with as many tries as a new event has.",
    status_code=202,
    responses=documented(TaskNotFound, WebhookNotFound),
)
async def redeliver(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> Response[TaskView]:
    """Answers 404 also if the task has no event for its webhook yet."""
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
