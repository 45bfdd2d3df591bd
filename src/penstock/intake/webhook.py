"""The webhook of a new task or batch.

Tasks, batches and their lines have it checked here, with the same errors for the same mistakes.
"""

from penstock.core.events import Dialect, Webhook
from penstock.errors import UrlBlocked, WebhooksDisabled
from penstock.intake.deps import Deps
from penstock.intake.requests import BatchWebhookRequest, WebhookRequest
from penstock.net.guard import check_url


def webhook_of(
    request: WebhookRequest | BatchWebhookRequest | None, deps: Deps, *, base_url: str, dialect: Dialect = "penstock"
) -> Webhook | None:
    """Return the webhook for the record, or None where none is wanted.

    The text of its URL is checked; its address is checked at each delivery, because it may change until then. Raises
    WebhooksDisabled, UrlBlocked.
    """
    if request is None:
        return None
    if not deps.settings.webhooks.secrets:
        raise WebhooksDisabled("this server has no webhooks.secrets to sign with", param="webhook")
    try:
        url = check_url(request.url, deps.webhook_policy)
    except UrlBlocked as error:
        error.param = "webhook.url"
        raise
    return Webhook(url=url, events=request.events, base_url=base_url, dialect=dialect)
