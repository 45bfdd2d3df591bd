"""The one exception of the client, made from answers and from broken connections."""

import html
import os
import re
from typing import Any

import httpx
import msgspec
from msgspec import Struct

from penstock.client.inputs import Source
from penstock.client.views import Task

UNREACHABLE = "unreachable"
DAMAGED = "damaged_download"
"""Codes that the client itself adds to those of the server."""

PASSING = frozenset({429, 502, 503, 504})
"""HTTP statuses that are worth a retry if there is no problem document, since a proxy answered."""

BUCKET_PASSING = frozenset({"InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"})
"""Error codes of S3 that are worth a retry; some come with 400 or 500."""

SAID = {
    httpx.ConnectTimeout: "no connection for {connect:.3g} s",
    httpx.ReadTimeout: "no answer for {read:.3g} s",
    httpx.WriteTimeout: "nothing more of the request was taken for {write:.3g} s",
    httpx.ReadError: "the connection broke before the answer was whole",
    httpx.WriteError: "the connection broke while the request was sent",
}
"""What httpx has no words for, or only those of a lower layer; with its limits in seconds."""

BUCKET_CODE, BUCKET_MESSAGE = (re.compile(rf"<{name}>([^<]{{1,300}})</{name}>") for name in ("Code", "Message"))


class PenstockApiError(Exception):
    """Penstock said no, could not be reached, or a task ended without a result.

    `code` is stable: one of docs/reference/errors.md, `unreachable`, `damaged_download`, `canceled`, `expired`, or
    `http_<status>` where something else answered. `status` is that of HTTP, 0 where there was none. `param` names the
    member of the request at fault, `quota` the one that the tenant has used up; `request_id` is what the server's log
    has it under. `retryable` says whether the same request may succeed later, and `retry_after_s` when, if the server
    said so. `findings` has a text for each of the first lines of a batch that are wrong.
    """

    def __init__(
        self,
        detail: str,
        *,
        code: str,
        status: int = 0,
        param: str | None = None,
        quota: str | None = None,
        request_id: str | None = None,
        retryable: bool = False,
        retry_after_s: float | None = None,
        findings: tuple[str, ...] = (),
    ) -> None:
        super().__init__(f"{code}: {detail}" + (f" ({param})" if param else ""))
        self.detail = detail
        self.code = code
        self.status = status
        self.param = param
        self.quota = quota
        self.request_id = request_id
        self.retryable = retryable
        self.retry_after_s = retry_after_s
        self.findings = findings

    def __reduce__(self) -> tuple[Any, ...]:
        """Keeps all members in copies and between processes; the default would rebuild it from `args` alone."""
        return Exception.__new__, (type(self), *self.args), self.__dict__


class _Finding(Struct, frozen=True, kw_only=True):
    """One of several things wrong with a request."""

    param: str
    detail: str
    line: int | None = None
    custom_id: str | None = None

    def __str__(self) -> str:
        name = f" ({self.custom_id})" if self.custom_id else ""
        place = f"line {self.line}{name}: " if self.line else ""
        return f"{place}{self.detail}" + (f" ({self.param})" if self.param else "")


class _Problem(Struct, frozen=True, kw_only=True):
    """The members that every problem document (RFC 9457) of Penstock has, and the `quota` of some."""

    detail: str
    code: str
    retryable: bool
    param: str | None = None
    quota: str | None = None
    request_id: str | None = None
    errors: tuple[_Finding, ...] = ()


def refusal(answer: httpx.Response) -> PenstockApiError:
    """Returns the exception for a 4xx or 5xx answer whose body has been read."""
    retry_after_s = _seconds(answer.headers.get("Retry-After"))
    try:
        problem = msgspec.json.decode(answer.content, type=_Problem)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        bucket_code, said = _of_a_bucket(answer)
        return PenstockApiError(
            f"{answer.url.host} answered {answer.status_code}{said}",
            code=f"http_{answer.status_code}",
            status=answer.status_code,
            retryable=answer.status_code in PASSING or bucket_code in BUCKET_PASSING,
            retry_after_s=retry_after_s,
        )
    return PenstockApiError(
        problem.detail,
        code=problem.code,
        status=answer.status_code,
        param=problem.param,
        quota=problem.quota,
        request_id=problem.request_id,
        retryable=problem.retryable,
        retry_after_s=retry_after_s,
        findings=tuple(map(str, problem.errors)),
    )


def unreachable(url: str, error: httpx.TransportError) -> PenstockApiError:
    """Returns the exception for a connection that failed, broke, or gave no answer in time."""
    return PenstockApiError(f"{url}: {_reason(error)}", code=UNREACHABLE, retryable=True)


def _reason(error: httpx.TransportError) -> str:
    if said := SAID.get(type(error)):
        return said.format(**error.request.extensions.get("timeout", {}))
    cause: BaseException = error
    while inner := cause.__cause__ or cause.__context__:
        cause = inner
    if isinstance(cause, ConnectionError) and cause.errno:
        return os.strerror(cause.errno)
    return str(error) or type(error).__name__


def _of_a_bucket(answer: httpx.Response) -> tuple[str | None, str]:
    """Returns the error code and the message of an S3 server, if the answer came from one."""
    code, message = BUCKET_CODE.search(answer.text), BUCKET_MESSAGE.search(answer.text)
    if code is None:
        return None, ", and not as Penstock does"
    return code[1], f" {code[1]}" + (f": {html.unescape(message[1])}" if message else "")


def failure_of(task: Task) -> PenstockApiError | None:
    """Returns the exception for a task that ended without a result, else None."""
    if task.succeeded or not task.is_final:
        return None
    if task.error is None:
        return PenstockApiError(f"the task has ended as {task.status}", code=task.status.lower())
    return PenstockApiError(task.error.message, code=task.error.code, retryable=task.error.retryable)


def _seconds(header: str | None) -> float | None:
    return float(header) if header and header.isascii() and header.isdigit() else None


class Mapped(Struct, frozen=True, kw_only=True):
    """The outcome of one source of `map`: the task if it succeeded, else the error, and the task too if one ran."""

    source: Source
    task: Task | None = None
    error: PenstockApiError | OSError | TypeError | ValueError | None = None
