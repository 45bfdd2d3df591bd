"""Errors of attempts: the record of a task has them."""

from penstock.errors.base import PenstockError


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


class InsufficientMemory(PenstockError):
    """The task needs more memory than the machine or the container of the worker has for tasks. It was not begun, and a
    worker of the same size would not begin it either."""

    code, status, title = "insufficient_memory", 507, "Not enough memory for the task"


class InvalidOutput(PenstockError):
    """The model returned an array that cannot be a result: values that are no numbers, a wrong shape, or one colour for
    a photo. Where it ran in fp16, the attempt has tried it in fp32, too."""

    code, status, title = "invalid_output", 500, "Model output invalid"


class OutputTooLarge(PenstockError):
    """No quality makes the file of the result as small as `output.max_bytes`; the message has the smallest size."""

    code, status, title = "output_too_large", 422, "Result larger than max_bytes"


class ModelResultInvalid(PenstockError):
    """The model returned data that JSON cannot hold, or more than `limits.max_result_data_bytes`."""

    code, status, title = "model_result_invalid", 500, "Model result invalid"


class ModelError(PenstockError):
    """The model's own code raised an exception, which the message names by its class alone. It is retried only after a
    lost connection, a timeout or a lack of memory, since any other would be raised again."""

    code, status, title = "model_error", 500, "Model failed"


class TransientModelError(ModelError):
    """A `model_error` that another attempt may not meet."""

    retryable = True


class ModelUnavailable(PenstockError):
    """The worker cannot load this version of the model, or it fails its check there. Another worker may."""

    code, status, retryable, title = "model_unavailable", 503, True, "Model cannot be loaded"


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
