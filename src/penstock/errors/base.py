"""The base of all errors, and that of the set-up, which is none of them."""

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


class StoppedEarly(Exception):
    """A signal asked the processes to stop before they were ready."""
