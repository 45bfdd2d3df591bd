"""The border to the code of a model: whatever it raises there becomes an error of the task."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loguru import logger

from penstock.errors import ConfigurationError, ModelError, PenstockError, TransientModelError
from penstock.models.base import BaseModelRunner, DeviceBroken, Interrupted
from penstock.models.tracebacks import cause_of, own_traceback
from penstock.worker.task_log import SCOPE, LogScope

TRANSIENT: dict[type[BaseException], str] = {
    ConnectionError: "a service that the model asks has refused or broken the connection",
    TimeoutError: "it did not answer in time",
    socket.gaierror: "its name could not be resolved",
    MemoryError: "the memory of the host is shared with other tasks, which may have ended by the next attempt",
}
"""The exceptions after which a task is tried again, and why that may help. Any other would be raised again."""

AWAY = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
"""An OSError with one of these numbers, for which Python has no class, is transient too: a host cannot be reached."""

PASSED = (PenstockError, DeviceBroken, Interrupted)
"""Exceptions that the contract gives a meaning."""

LONGEST_CHAIN = 16
"""The most exceptions that are looked at of those that led to one another."""


class said_by_model(LogScope):  # noqa: N801  it is read as a block; a generator would take longer, six times a task
    """Inside of this block a model's method of this name runs, on any thread, for the tasks with these logs.

    What it says goes to the logs, and so do the tracebacks of its exceptions but those that the contract knows.
    """

    __slots__ = ("_before",)

    def __enter__(self) -> None:
        self._before = SCOPE.set(self)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        SCOPE.reset(self._before)
        if self._partial:
            self.end_line()
        if error is None or isinstance(error, (*PASSED, ConfigurationError)):
            return
        self.say(own_traceback(error).rstrip())


class model_code(said_by_model):  # noqa: N801
    """The same for a task that runs. Errors of `penstock.errors` pass, as do Interrupted and DeviceBroken. Anything
    else, also SystemExit, is raised as ModelError from it, or as TransientModelError when a table here says so."""

    __slots__ = ()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: object) -> None:
        if error is None and not self._partial:  # nearly always
            SCOPE.reset(self._before)
            return
        super().__exit__(kind, error, at)
        if error is not None and not isinstance(error, PASSED):
            raise model_error(self._method, error) from error


@contextmanager
def load_errors(runner: BaseModelRunner[Any]) -> Iterator[None]:
    """Inside of this block a model is loaded. What it raises becomes a ConfigurationError of one line, with the
    traceback in the log at debug, unless it is ours or transient: a restart would end the same way."""
    try:
        yield
    except (ConfigurationError, PenstockError, DeviceBroken):
        raise
    except Exception as error:
        if is_transient(error):
            raise
        logger.opt(exception=error).debug("a model cannot be loaded")
        raise ConfigurationError(f"{runner.name} cannot be loaded: {cause_of(error)}") from error


def model_error(method: str, error: BaseException) -> ModelError:
    """The error of a task whose model has raised `error` in this method. Its text has the class alone: what else an
    exception says may be a secret of the operator."""
    kind = TransientModelError if is_transient(error) else ModelError
    return kind(f"the model raised {_name_of(error)} in {method}; the task's log has the traceback")


def is_transient(error: BaseException) -> bool:
    """Whether the error is transient, or was raised because of one that is: libraries wrap those of the network."""
    at: BaseException | None = error
    for _ in range(LONGEST_CHAIN):
        if at is None:
            return False
        if isinstance(at, tuple(TRANSIENT)) or (isinstance(at, OSError) and at.errno in AWAY):
            return True
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return False


def _name_of(error: BaseException) -> str:
    # A class that is made at run time may have any name, also of several lines.
    name = type(error).__name__
    return name[:100] if name.isidentifier() else ascii(name)[:100]
