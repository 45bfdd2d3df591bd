"""Submits and cancels of one task, as the routes of every dialect make them."""

from typing import Annotated

from litestar.params import HeaderParameter
from msgspec import Struct

from penstock.api.http.auth import ApiRequest
from penstock.api.http.headers import rate_headers
from penstock.api.services import Services
from penstock.core.events import Dialect
from penstock.core.task import Task, new_task_id
from penstock.errors import (
    IdempotencyMismatch,
    ImageAnimated,
    ImageDecodeFailed,
    ImageTooLarge,
    InputTooLarge,
    InvalidRequest,
    MalformedRequest,
    ModelNotFound,
    ModelUnavailable,
    NotReady,
    PayloadTooLarge,
    PenstockError,
    QueueFull,
    RateLimited,
    StorageUnavailable,
    UnsupportedImageFormat,
    UnsupportedMediaType,
    UploadMismatch,
    UploadNotFound,
    UploadNotReady,
    UrlBlocked,
    WebhooksDisabled,
)
from penstock.intake.call import DURATION_PATTERN, KEY_PATTERN, SubmitCall, checked_call, with_headers
from penstock.intake.enqueue import Receipt, submit
from penstock.intake.requests import TaskRequest
from penstock.telemetry import endings, metrics

POLL_S = 1
"""How many seconds clients should wait before they look again."""

SUBMIT_ERRORS = (
    MalformedRequest, ModelNotFound, InputTooLarge, PayloadTooLarge, UnsupportedMediaType, UnsupportedImageFormat,
    InvalidRequest, UrlBlocked, IdempotencyMismatch, ImageTooLarge, ImageAnimated, ImageDecodeFailed,
    UploadNotFound, UploadNotReady, UploadMismatch, WebhooksDisabled, QueueFull, RateLimited, NotReady,
    ModelUnavailable, StorageUnavailable,
)  # fmt: skip
"""How a submit can be refused."""

IdempotencyKey = Annotated[
    str | None,
    HeaderParameter(
        name="Idempotency-Key",
        description="The same as client_request_id in the body",
        schema_extra={"pattern": KEY_PATTERN},
    ),
]
CancelAfter = Annotated[
    str | None,
    HeaderParameter(
        name="Cancel-After",
        description="The same as finish_within_s: 90, 90s, 5m, 1h30m",
        schema_extra={"pattern": DURATION_PATTERN},
    ),
]
CacheControl = Annotated[
    str | None, HeaderParameter(name="Cache-Control", description="`no-cache` is the same as reuse: false")
]


async def call_of(
    task: TaskRequest,
    request: ApiRequest,
    services: Services,
    *,
    idempotency_key: str | None = None,
    cancel_after: str | None = None,
    cache_control: str | None = None,
    wait_s: float | None = None,
    dialect: Dialect = "penstock",
) -> SubmitCall:
    """Make one call of a request; after that, nothing else of the request is needed to queue its task.

    Raises MalformedRequest, InvalidRequest, ModelNotFound, NotReady.
    """
    task = with_headers(task, idempotency_key=idempotency_key, cancel_after=cancel_after, cache_control=cache_control)
    if task.model not in services.models.references:
        await services.models.look_for(task.model)
    return checked_call(
        task,
        services.models,
        caller=request.auth,
        base_url=f"{request.scope['state']['base_url']}/",
        traceparent=request.scope["state"]["traceparent"],
        dialect=dialect,
        wait_s=wait_s,
    )


async def submit_and_wait(call: SubmitCall, request: ApiRequest, services: Services) -> tuple[Receipt, Task | None]:
    """Submit a call, and wait for the end of its task as long as the client does.

    The task is None for a new one for which nobody waits, or which cannot be read just now: it is queued all the same.
    Raises `SUBMIT_ERRORS`.
    """
    task_id, waiting = new_task_id(), services.waiting
    if call.wait_s:
        with waiting.expect(task_id) as end:  # before the submit, or the end of a quick task would be missed
            with CountingRefusals(services):
                receipt = await submit(task_id, call, services)
            return receipt, await waiting.end_of(receipt.submitted, end, wait_s=call.wait_s, request=request)
    with CountingRefusals(services):
        receipt = await submit(task_id, call, services)
    is_new = not receipt.submitted.replayed
    return receipt, None if is_new else await waiting.task(receipt.submitted.id, wait_s=0, request=request)


class CountingRefusals(Struct, frozen=True):
    """Counts refused submits in the metrics, and adds the headers of the rate limit to a refusal by that limit.

    It is a class because every submit enters it twice, and a generator would make three times the calls.
    """

    services: Services

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if not isinstance(error, PenstockError):
            return
        metrics.report("submits.refused", code=error.code)
        if isinstance(error, RateLimited):
            limit = self.services.settings.api.rate_limit_per_minute
            error.headers |= rate_headers("submit", limit, left=0, reset_s=error.retry_after_s or 1)


async def cancel_task(task_id: str, request: ApiRequest, services: Services) -> Task:
    """Cancel a task and return it as it is then. Raises TaskNotFound, TaskAlreadyFinal, ResultExpired."""
    has_ended = await services.store.tasks.cancel(task_id, request.auth.tenant)
    task = await services.store.tasks.get(task_id, request.auth.tenant)
    if has_ended:
        endings.count_end(task.request.model, task.state)
    return task
