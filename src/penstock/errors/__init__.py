"""Every error that clients see: one class for each code, with its HTTP status and whether a retry helps.

PenstockError
├── at the API:  MalformedRequest InvalidRequest Unauthorized Forbidden NotFound TaskNotFound ModelNotFound
│                MethodNotAllowed RequestTimeout TaskAlreadyFinal TaskNotFinal ResultNotReady ResultExpired
│                PayloadTooLarge UnsupportedMediaType RangeNotSatisfiable IdempotencyMismatch
│                WebhooksDisabled WebhookNotFound UploadNotFound UploadNotReady UploadMismatch UploadInUse
│                BatchNotFound BatchAlreadyFinal BatchNotFinal WorkerNotFound AccessKeyNotFound
│                AccessKeyReplaced QueueFull TooManyBatches QuotaExceeded RateLimited NotReady
│                StoreUnavailable
├── of an input: UrlBlocked InputNotFound InputDownloadFailed InputTooLarge ImageTooLarge ImageAnimated
│                ImageDecodeFailed UnsupportedImageFormat
└── of a run:    ExecutionTimeout StartDeadlineExceeded DeadlineExceeded DeviceOutOfMemory InsufficientMemory
                 InvalidOutput OutputTooLarge ModelResultInvalid ModelError ModelUnavailable
                 StorageUnavailable WorkerLost PoisonInput RecordUnreadable Internal

ConfigurationError, StoppedEarly (of the set-up; a client never sees them)
"""

from penstock.errors.at_api import (
    AccessKeyNotFound,
    AccessKeyReplaced,
    BatchAlreadyFinal,
    BatchNotFinal,
    BatchNotFound,
    Forbidden,
    IdempotencyMismatch,
    InvalidRequest,
    MalformedRequest,
    MethodNotAllowed,
    ModelNotFound,
    NotFound,
    NotReady,
    PayloadTooLarge,
    QueueFull,
    QuotaExceeded,
    RangeNotSatisfiable,
    RateLimited,
    RequestTimeout,
    ResultExpired,
    ResultNotReady,
    StoreUnavailable,
    TaskAlreadyFinal,
    TaskNotFinal,
    TaskNotFound,
    TooManyBatches,
    Unauthorized,
    UnsupportedMediaType,
    UploadInUse,
    UploadMismatch,
    UploadNotFound,
    UploadNotReady,
    WebhookNotFound,
    WebhooksDisabled,
    WorkerNotFound,
)
from penstock.errors.base import (
    ConfigurationError,
    PenstockError,
    StoppedEarly,
)
from penstock.errors.of_input import (
    ImageAnimated,
    ImageDecodeFailed,
    ImageTooLarge,
    InputDownloadFailed,
    InputNotFound,
    InputTooLarge,
    UnsupportedImageFormat,
    UrlBlocked,
)
from penstock.errors.of_run import (
    DeadlineExceeded,
    DeviceOutOfMemory,
    ExecutionTimeout,
    InsufficientMemory,
    Internal,
    InvalidOutput,
    ModelError,
    ModelResultInvalid,
    ModelUnavailable,
    OutputTooLarge,
    PoisonInput,
    RecordUnreadable,
    StartDeadlineExceeded,
    StorageUnavailable,
    TransientModelError,
    WorkerLost,
)

__all__ = [
    "AccessKeyNotFound",
    "AccessKeyReplaced",
    "BatchAlreadyFinal",
    "BatchNotFinal",
    "BatchNotFound",
    "ConfigurationError",
    "DeadlineExceeded",
    "DeviceOutOfMemory",
    "ExecutionTimeout",
    "Forbidden",
    "IdempotencyMismatch",
    "ImageAnimated",
    "ImageDecodeFailed",
    "ImageTooLarge",
    "InputDownloadFailed",
    "InputNotFound",
    "InputTooLarge",
    "InsufficientMemory",
    "Internal",
    "InvalidOutput",
    "InvalidRequest",
    "MalformedRequest",
    "MethodNotAllowed",
    "ModelError",
    "ModelNotFound",
    "ModelResultInvalid",
    "ModelUnavailable",
    "NotFound",
    "NotReady",
    "OutputTooLarge",
    "PayloadTooLarge",
    "PenstockError",
    "PoisonInput",
    "QueueFull",
    "QuotaExceeded",
    "RangeNotSatisfiable",
    "RateLimited",
    "RecordUnreadable",
    "RequestTimeout",
    "ResultExpired",
    "ResultNotReady",
    "StartDeadlineExceeded",
    "StoppedEarly",
    "StorageUnavailable",
    "StoreUnavailable",
    "TaskAlreadyFinal",
    "TaskNotFinal",
    "TaskNotFound",
    "TooManyBatches",
    "TransientModelError",
    "Unauthorized",
    "UnsupportedImageFormat",
    "UnsupportedMediaType",
    "UploadInUse",
    "UploadMismatch",
    "UploadNotFound",
    "UploadNotReady",
    "UrlBlocked",
    "WebhookNotFound",
    "WebhooksDisabled",
    "WorkerLost",
    "WorkerNotFound",
    "codes",
]


def codes() -> dict[str, type[PenstockError]]:
    """The class of every code that can appear in an answer or in a task."""
    return {cls.code: cls for cls in PenstockError.__subclasses__()}
