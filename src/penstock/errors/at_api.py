"""Errors of requests: the API answers with them."""

from penstock.errors.base import PenstockError


class MalformedRequest(PenstockError):
    """The body is not JSON, or the request line or a header cannot be read."""

    code, status, title = "malformed_request", 400, "Malformed request"


class InvalidRequest(PenstockError):
    """The body is JSON, but a member is missing, unknown, of the wrong type or out of range."""

    code, status, title = "invalid_request", 422, "Invalid request"


class Unauthorized(PenstockError):
    """The API key is missing or not known."""

    code, status, title = "unauthorized", 401, "API key missing or unknown"


class Forbidden(PenstockError):
    """The API key has not the scope that this needs."""

    code, status, title = "forbidden", 403, "Not allowed with this API key"


class NotFound(PenstockError):
    """The path does not exist."""

    code, status, title = "not_found", 404, "No such path"


class TaskNotFound(PenstockError):
    """No task of this tenant has this id, or it was deleted more than a week ago."""

    code, status, title = "task_not_found", 404, "No such task"


class ModelNotFound(PenstockError):
    """This server serves no model of that name."""

    code, status, title = "model_not_found", 404, "No such model"


class MethodNotAllowed(PenstockError):
    """The path exists, but not with this method."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class RequestTimeout(PenstockError):
    """The request did not come within `api.receive_s`, and its body at less than `api.receive_bytes_per_s`."""

    code, status, retryable, title = "request_timeout", 408, True, "Request not received in time"


class TaskAlreadyFinal(PenstockError):
    """The task has already ended, in another state than the request asks for."""

    code, status, title = "task_already_final", 409, "Task already final"


class TaskNotFinal(PenstockError):
    """The task waits or runs. It can be deleted only after it has ended; cancel it first."""

    code, status, title = "task_not_final", 409, "Task not final"


class ResultNotReady(PenstockError):
    """The task has no result yet, or has ended without one."""

    code, status, title = "result_not_ready", 409, "Task has no result"


class ResultExpired(PenstockError):
    """The task or its result has been deleted, by a client or after its retention."""

    code, status, title = "result_expired", 410, "No longer stored"


class PayloadTooLarge(PenstockError):
    """The body is larger than `limits.max_body_bytes`, its JSON apart from `data:` URIs is much longer than
    `limits.max_json_bytes` or has too many members, or an upload is larger than `limits.max_upload_bytes`."""

    code, status, title = "payload_too_large", 413, "Request body too large"


class UnsupportedMediaType(PenstockError):
    """The body, or a file of the input, has another content type than the operation or the model takes."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class RangeNotSatisfiable(PenstockError):
    """The requested range of a result begins behind its end."""

    code, status, title = "range_not_satisfiable", 416, "Range not satisfiable"


class IdempotencyMismatch(PenstockError):
    """The `client_request_id` was used before with another body."""

    code, status, title = "idempotency_mismatch", 422, "client_request_id already used"


class WebhooksDisabled(PenstockError):
    """The request names a webhook, but the operator has set no `webhooks.secrets` to sign with."""

    code, status, title = "webhooks_disabled", 422, "No webhooks here"


class WebhookNotFound(PenstockError):
    """The task has no webhook, or no event that the webhook asks for has happened yet."""

    code, status, title = "webhook_not_found", 404, "Nothing to deliver"


class UploadNotFound(PenstockError):
    """The upload does not exist, was deleted, or belongs to another key."""

    code, status, title = "upload_not_found", 404, "No such upload"


class UploadNotReady(PenstockError):
    """The bytes of the upload have not arrived yet."""

    code, status, title = "upload_not_ready", 409, "Upload not complete"


class UploadMismatch(PenstockError):
    """The bytes that arrived have another size or sha256 than was announced."""

    code, status, title = "upload_mismatch", 422, "Other bytes than announced"


class UploadInUse(PenstockError):
    """A task uses the upload. It is deleted after its last task."""

    code, status, title = "upload_in_use", 409, "Upload in use"


class BatchNotFound(PenstockError):
    """No batch of this tenant has this id, or it was deleted more than a week ago."""

    code, status, title = "batch_not_found", 404, "No such batch"


class BatchAlreadyFinal(PenstockError):
    """The batch has ended and cannot be canceled any more."""

    code, status, title = "batch_already_final", 409, "Batch already final"


class BatchNotFinal(PenstockError):
    """Some lines of the batch have not ended. It can be deleted only after all have; cancel it first."""

    code, status, title = "batch_not_final", 409, "Batch not final"


class WorkerNotFound(PenstockError):
    """No worker of that id has reported within its lease."""

    code, status, title = "worker_not_found", 404, "Worker not found"


class AccessKeyNotFound(PenstockError):
    """No managed key has this id, or it has ended and cannot be rotated."""

    code, status, title = "key_not_found", 404, "No such key"


class AccessKeyReplaced(PenstockError):
    """The managed key was replaced before; rotate the one that took its place."""

    code, status, title = "key_already_replaced", 409, "Key already replaced"


class QueueFull(PenstockError):
    """`queue.max_depth` tasks wait for this model, whoever sent them."""

    code, status, retryable, title = "queue_full", 503, True, "Queue full"


class TooManyBatches(PenstockError):
    """`queue.max_batches` batches of this key are unfinished."""

    code, status, retryable, title = "too_many_batches", 429, True, "Too many batches"


class RateLimited(PenstockError):
    """This key has submitted `api.rate_limit_per_minute` tasks within a minute, or opened as many uploads; or this
    address has sent too many wrong keys; or this address, or this tenant, has too many requests in progress."""

    code, status, retryable, title = "rate_limited", 429, True, "Too many requests"


class QuotaExceeded(PenstockError):
    """This tenant has used up one of its quotas, which the member `quota` names."""

    code, status, retryable, title = "quota_exceeded", 429, True, "Quota exceeded"

    def __init__(
        self,
        detail: str = "",
        *,
        quota: str,
        limit: int = 0,
        param: str | None = None,
        retry_after_s: int | None = 5,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail, param=param, retry_after_s=retry_after_s, headers=headers)
        self.quota = quota
        self.limit = limit


class NotReady(PenstockError):
    """Redis or the storage does not answer, no worker has published its models yet, or the server is stopping."""

    code, status, retryable, title = "not_ready", 503, True, "Not ready"


class StoreUnavailable(PenstockError):
    """Redis cannot be reached, is loading, does not answer in time, or refuses writes."""

    code, status, retryable, title = "store_unavailable", 503, True, "Task store unavailable"
