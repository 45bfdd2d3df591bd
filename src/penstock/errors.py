"""Every way Penstock says no: one class for each code, with its HTTP status and whether a retry helps.

PenstockError
├── at the API:  MalformedRequest InvalidRequest Unauthorized NotFound TaskNotFound ModelNotFound
│                MethodNotAllowed TaskAlreadyFinal TaskNotFinal ResultNotReady ResultExpired PayloadTooLarge
│                UnsupportedMediaType RangeNotSatisfiable IdempotencyMismatch WebhooksDisabled
│                WebhookNotFound UploadNotFound UploadNotReady UploadMismatch UploadInUse BatchNotFound
│                BatchAlreadyFinal BatchNotFinal WorkerNotFound QueueFull RateLimited NotReady StoreUnavailable
├── of an input: UrlBlocked InputNotFound InputDownloadFailed InputTooLarge ImageTooLarge
│                ImageDecodeFailed UnsupportedImageFormat
├── of a run:    ExecutionTimeout StartDeadlineExceeded DeadlineExceeded DeviceOutOfMemory InvalidOutput
│                ModelResultInvalid StorageUnavailable WorkerLost PoisonInput RecordUnreadable
│                Internal
└── of the set-up (never on the wire): ConfigurationError
"""

from typing import ClassVar


class PenstockError(Exception):
    """Base of all; `code`, `status` and `retryable` belong to the class, `detail` to the occurrence.

    `param` names the member of the request at fault (`input.image_url`), `retry_after_s` how long to wait
    before trying again, `errors` several findings of one validation.
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
    """A setting is wrong; the message is one line that says what to change."""


# --- at the API -----------------------------------------------------------------------------------------------


class MalformedRequest(PenstockError):
    """The body is not JSON, or the request line or a header cannot be read."""

    code, status, title = "malformed_request", 400, "Malformed request"


class InvalidRequest(PenstockError):
    """The body is JSON, but a member is missing, unknown, of the wrong type or out of range."""

    code, status, title = "invalid_request", 422, "Invalid request"


class Unauthorized(PenstockError):
    """No API key, or one that is not known."""

    code, status, title = "unauthorized", 401, "API key missing or unknown"


class NotFound(PenstockError):
    """There is no such path."""

    code, status, title = "not_found", 404, "No such path"


class TaskNotFound(PenstockError):
    """There is no such task, or it belongs to somebody else."""

    code, status, title = "task_not_found", 404, "No such task"


class ModelNotFound(PenstockError):
    """No model of that name is served here."""

    code, status, title = "model_not_found", 404, "No such model"


class MethodNotAllowed(PenstockError):
    """The path exists, the method does not."""

    code, status, title = "method_not_allowed", 405, "Method not allowed"


class TaskAlreadyFinal(PenstockError):
    """The task has ended in another state than the one asked for."""

    code, status, title = "task_already_final", 409, "Task already final"


class TaskNotFinal(PenstockError):
    """The task waits or runs, and can only be deleted when it has ended; cancel it first."""

    code, status, title = "task_not_final", 409, "Task not final"


class ResultNotReady(PenstockError):
    """The task has no result yet, or ended without one."""

    code, status, title = "result_not_ready", 409, "Task has no result"


class ResultExpired(PenstockError):
    """The task or its result was deleted, by a client or after its retention."""

    code, status, title = "result_expired", 410, "No longer stored"


class PayloadTooLarge(PenstockError):
    """The request body is over `limits.max_body_bytes`, or an upload over `limits.max_upload_bytes`."""

    code, status, title = "payload_too_large", 413, "Request body too large"


class UnsupportedMediaType(PenstockError):
    """The request body is not application/json."""

    code, status, title = "unsupported_media_type", 415, "Unsupported media type"


class RangeNotSatisfiable(PenstockError):
    """The part of a result that was asked for begins behind its end."""

    code, status, title = "range_not_satisfiable", 416, "Range not satisfiable"


class IdempotencyMismatch(PenstockError):
    """The `client_request_id` was used before, with another body."""

    code, status, title = "idempotency_mismatch", 422, "client_request_id already used"


class WebhooksDisabled(PenstockError):
    """A webhook was asked for, and the operator has set no `webhooks.secrets` to sign with."""

    code, status, title = "webhooks_disabled", 422, "No webhooks here"


class WebhookNotFound(PenstockError):
    """The task has no webhook, or nothing has happened yet that it is told."""

    code, status, title = "webhook_not_found", 404, "Nothing to deliver"


class UploadNotFound(PenstockError):
    """There is no such upload, it was deleted, or it belongs to somebody else."""

    code, status, title = "upload_not_found", 404, "No such upload"


class UploadNotReady(PenstockError):
    """The bytes of the upload have not arrived yet."""

    code, status, title = "upload_not_ready", 409, "Upload not complete"


class UploadMismatch(PenstockError):
    """The bytes that came are not those that were announced: another size, or another sha256."""

    code, status, title = "upload_mismatch", 422, "Other bytes than announced"


class UploadInUse(PenstockError):
    """A task uses the upload, which is deleted after its last task."""

    code, status, title = "upload_in_use", 409, "Upload in use"


class BatchNotFound(PenstockError):
    """There is no such batch, or it belongs to somebody else."""

    code, status, title = "batch_not_found", 404, "No such batch"


class BatchAlreadyFinal(PenstockError):
    """The batch has ended, and cannot be canceled any more."""

    code, status, title = "batch_already_final", 409, "Batch already final"


class BatchNotFinal(PenstockError):
    """The batch has lines that have not ended, and can only be deleted when all have; cancel it first."""

    code, status, title = "batch_not_final", 409, "Batch not final"


class WorkerNotFound(PenstockError):
    """No worker of that id has been heard of within its lease."""

    code, status, title = "worker_not_found", 404, "Worker not found"


class QueueFull(PenstockError):
    """The queue of this model holds `queue.max_depth` tasks, or `queue.max_batches` of this key are unfinished."""

    code, status, retryable, title = "queue_full", 429, True, "Queue full"


class RateLimited(PenstockError):
    """This key has submitted `api.rate_limit_per_minute` tasks, or opened as many uploads, within a minute."""

    code, status, retryable, title = "rate_limited", 429, True, "Too many submits"


class NotReady(PenstockError):
    """Redis or the storage does not answer, or the server is stopping."""

    code, status, retryable, title = "not_ready", 503, True, "Not ready"


class StoreUnavailable(PenstockError):
    """Redis cannot be reached, is loading or held up, or refuses writes."""

    code, status, retryable, title = "store_unavailable", 503, True, "Task store unavailable"


# --- of an input ----------------------------------------------------------------------------------------------


class UrlBlocked(PenstockError):
    """The URL, an address or a redirect it leads to is not one this server may fetch."""

    code, status, title = "input_url_blocked", 422, "URL not allowed"


class InputNotFound(PenstockError):
    """The source answered that there is nothing for us (4xx)."""

    code, status, title = "input_not_found", 422, "Input not found"


class InputDownloadFailed(PenstockError):
    """The source could not be reached, broke off, timed out or answered 5xx."""

    code, status, retryable, title = "input_download_failed", 502, True, "Input download failed"


class InputTooLarge(PenstockError):
    """The input has more bytes than `limits.max_input_bytes`."""

    code, status, title = "input_too_large", 413, "Input too large"


class ImageTooLarge(PenstockError):
    """The image has more pixels or frames than allowed."""

    code, status, title = "image_too_large", 422, "Image too large"


class ImageDecodeFailed(PenstockError):
    """The bytes claim to be an image and cannot be decoded."""

    code, status, title = "image_decode_failed", 422, "Image cannot be decoded"


class UnsupportedImageFormat(PenstockError):
    """The bytes are not a PNG, JPEG or WebP image, or were sent compressed."""

    code, status, title = "unsupported_image_format", 415, "Unsupported image format"


# --- of a run -------------------------------------------------------------------------------------------------


class ExecutionTimeout(PenstockError):
    """One attempt worked longer than `timeout_s`; it would again."""

    code, status, title = "execution_timeout", 504, "Attempt ran too long"


class StartDeadlineExceeded(PenstockError):
    """The task was not started within `start_within_s`."""

    code, status, title = "start_deadline_exceeded", 504, "Not started in time"


class DeadlineExceeded(PenstockError):
    """The task had not ended by its deadline (`Cancel-After`)."""

    code, status, title = "deadline_exceeded", 504, "Deadline exceeded"


class DeviceOutOfMemory(PenstockError):
    """The device could not hold the batch, at its smallest size."""

    code, status, retryable, title = "device_out_of_memory", 507, True, "Device out of memory"


class InvalidOutput(PenstockError):
    """The model gave something that cannot be a result (NaN, wrong shape)."""

    code, status, title = "invalid_output", 500, "Model output invalid"


class ModelResultInvalid(PenstockError):
    """The model returned a result that JSON cannot hold, or more data than `limits.max_result_data_bytes`."""

    code, status, title = "model_result_invalid", 500, "Model result invalid"


class StorageUnavailable(PenstockError):
    """The result storage cannot be reached or is full."""

    code, status, retryable, title = "storage_unavailable", 503, True, "Result storage unavailable"


class WorkerLost(PenstockError):
    """The worker that ran the attempt died or went silent."""

    code, status, retryable, title = "worker_lost", 500, True, "Worker lost"


class PoisonInput(PenstockError):
    """The task was running at several worker deaths and is not tried again by itself."""

    code, status, title = "poison_input", 500, "Task killed its workers"


class RecordUnreadable(PenstockError):
    """What Redis held of the task was damaged, so that the task was ended and its record set aside."""

    code, status, title = "record_unreadable", 500, "Record unreadable"


class Internal(PenstockError):
    """A fault of ours; the log has it under the request or task id."""

    code, status, retryable, title = "internal", 500, True, "Internal error"


def codes() -> dict[str, type[PenstockError]]:
    """The closed list: every code that can appear on the wire, with its class."""
    return {cls.code: cls for cls in PenstockError.__subclasses__()}
