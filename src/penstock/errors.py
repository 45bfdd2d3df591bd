"""Every error that clients see: one class for each code, with its HTTP status and whether a retry helps.

PenstockError
├── at the API:  MalformedRequest InvalidRequest Unauthorized NotFound TaskNotFound ModelNotFound
│                MethodNotAllowed TaskAlreadyFinal TaskNotFinal ResultNotReady ResultExpired PayloadTooLarge
│                UnsupportedMediaType RangeNotSatisfiable IdempotencyMismatch WebhooksDisabled
│                WebhookNotFound UploadNotFound UploadNotReady UploadMismatch UploadInUse BatchNotFound
│                BatchAlreadyFinal BatchNotFinal WorkerNotFound QueueFull RateLimited NotReady StoreUnavailable
├── of an input: UrlBlocked InputNotFound InputDownloadFailed InputTooLarge ImageTooLarge
│                ImageDecodeFailed UnsupportedImageFormat
└── of a run:    ExecutionTimeout StartDeadlineExceeded DeadlineExceeded DeviceOutOfMemory InvalidOutput
                 ModelResultInvalid StorageUnavailable WorkerLost PoisonInput RecordUnreadable
                 Internal

ConfigurationError (of the set-up; a client never sees it)
"""

from typing import ClassVar


class PenstockError(Exception):
    """Base of all errors that clients see. `code`, `status`, `retryable` and `title` belong to the class.

    `detail` explains the occurrence, `param` names the member of the request at fault (`input.image_url`),
    `retry_after_s` is how many seconds to wait before trying again, and `headers` go into the answer.
    """

    code: ClassVar[str] = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    title: ClassVar[str] = "Internal error"

    def __init__(
        self,
        detail: str = "",
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.param = param
        self.retry_after_s = retry_after_s
        self.headers = headers or {}


class ConfigurationError(Exception):
    """A setting is wrong. The message is one line that says what to change."""


# --- at the API -----------------------------------------------------------------------------------------------


class MalformedRequest(PenstockError):
    """The body is not JSON, or the request line or a header cannot be read."""

    code, status, title = "malformed_request", 400, "Malformed request"


class InvalidRequest(PenstockError):
    """The body is JSON, but a member is missing, unknown, of the wrong type or out of range."""

    code, status, title = "invalid_request", 422, "Invalid request"


class Unauthorized(PenstockError):
    """The API key is missing or not known."""

    code, status, title = "unauthorized", 401, "API key missing or unknown"


class NotFound(PenstockError):
    """The path does not exist."""

    code, status, title = "not_found", 404, "No such path"


class TaskNotFound(PenstockError):
    """No task has this id, or it was deleted more than a week ago. Every key sees the tasks of all keys."""

    code, status, title = "task_not_found", 404, "No such task"


class ModelNotFound(PenstockError):
    """This server serves no model of that name."""

    code, status, title = "model_not_found", 404, "No such model"


class MethodNotAllowed(PenstockError):
    """The path exists, but not with this method."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


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
    """The body is larger than `limits.max_body_bytes`, or an upload larger than `limits.max_upload_bytes`."""

    code, status, title = "payload_too_large", 413, "Request body too large"


class UnsupportedMediaType(PenstockError):
    """The body has another content type than the operation takes."""

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
    """No batch has this id, or it was deleted more than a week ago. Every key sees the batches of all keys."""

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


class QueueFull(PenstockError):
    """`queue.max_depth` tasks wait for this model, or `queue.max_batches` batches of this key are unfinished."""

    code, status, retryable, title = "queue_full", 429, True, "Queue full"


class RateLimited(PenstockError):
    """This key has submitted `api.rate_limit_per_minute` tasks within a minute, or opened as many uploads."""

    code, status, retryable, title = "rate_limited", 429, True, "Too many submits"


class NotReady(PenstockError):
    """Redis or the storage does not answer, no worker has published its models yet, or the server is stopping."""

    code, status, retryable, title = "not_ready", 503, True, "Not ready"


class StoreUnavailable(PenstockError):
    """Redis cannot be reached, is loading, does not answer in time, or refuses writes."""

    code, status, retryable, title = "store_unavailable", 503, True, "Task store unavailable"


# --- of an input ----------------------------------------------------------------------------------------------


class UrlBlocked(PenstockError):
    """The URL, its address, or a redirect leads to a place that this server may not fetch from."""

    code, status, title = "input_url_blocked", 422, "URL not allowed"


class InputNotFound(PenstockError):
    """The source answered 4xx: it has no such input, or not for this server."""

    code, status, title = "input_not_found", 422, "Input not found"


class InputDownloadFailed(PenstockError):
    """The source could not be reached, broke the connection, timed out or answered 5xx."""

    code, status, retryable, title = "input_download_failed", 502, True, "Input download failed"


class InputTooLarge(PenstockError):
    """The input is larger than `limits.max_input_bytes`."""

    code, status, title = "input_too_large", 413, "Input too large"


class ImageTooLarge(PenstockError):
    """The image has more pixels or frames than is allowed."""

    code, status, title = "image_too_large", 422, "Image too large"


class ImageDecodeFailed(PenstockError):
    """The bytes begin like an image but cannot be decoded."""

    code, status, title = "image_decode_failed", 422, "Image cannot be decoded"


class UnsupportedImageFormat(PenstockError):
    """The input is not a PNG, JPEG or WebP image, or was sent with a Content-Encoding."""

    code, status, title = "unsupported_image_format", 415, "Unsupported image format"


# --- of a run -------------------------------------------------------------------------------------------------


class ExecutionTimeout(PenstockError):
    """One attempt worked longer than `timeout_s`. It is not repeated, since the next one would take as long."""

    code, status, title = "execution_timeout", 504, "Attempt ran too long"


class StartDeadlineExceeded(PenstockError):
    """The task was not started within `start_within_s`."""

    code, status, title = "start_deadline_exceeded", 504, "Not started in time"


class DeadlineExceeded(PenstockError):
    """The task did not end by its deadline (`finish_within_s`, `Cancel-After`)."""

    code, status, title = "deadline_exceeded", 504, "Deadline exceeded"


class DeviceOutOfMemory(PenstockError):
    """The memory of the device was too small even for the smallest device batch."""

    code, status, retryable, title = "device_out_of_memory", 507, True, "Device out of memory"


class InvalidOutput(PenstockError):
    """The model returned an array that cannot be a result (NaN, or a wrong shape)."""

    code, status, title = "invalid_output", 500, "Model output invalid"


class ModelResultInvalid(PenstockError):
    """The model returned data that JSON cannot hold, or more than `limits.max_result_data_bytes`."""

    code, status, title = "model_result_invalid", 500, "Model result invalid"


class StorageUnavailable(PenstockError):
    """The result storage cannot be reached or is full."""

    code, status, retryable, title = "storage_unavailable", 503, True, "Result storage unavailable"


class WorkerLost(PenstockError):
    """The worker that ran the attempt died or gave no sign of life."""

    code, status, retryable, title = "worker_lost", 500, True, "Worker lost"


class PoisonInput(PenstockError):
    """Several workers died while they ran this task. It is not retried automatically."""

    code, status, title = "poison_input", 500, "Task killed its workers"


class RecordUnreadable(PenstockError):
    """The record of the task was damaged in Redis. The task was ended, and its record set aside."""

    code, status, title = "record_unreadable", 500, "Record unreadable"


class Internal(PenstockError):
    """A fault of the server. Its log has the details under the request id or the task id."""

    code, status, retryable, title = "internal", 500, True, "Internal error"


def codes() -> dict[str, type[PenstockError]]:
    """The class of every code that can appear in an answer or in a task."""
    return {cls.code: cls for cls in PenstockError.__subclasses__()}
