"""The border to the code of a model: whatever it raises there becomes an error of the task."""

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from loguru import logger

from penstock.errors import ConfigurationError, ModelError, PenstockError, TransientModelError
from penstock.models.base import BaseModelRunner, DeviceBroken, Interrupted
from penstock.models.tracebacks import cause_of

TRANSIENT: dict[type[BaseException], str] = {
    ConnectionError: "a service that the model asks has refused or broken the connection",
    TimeoutError: "it did not answer in time",
    socket.gaierror: "its name could not be resolved",
    MemoryError: "the memory of the host is shared with other tasks, which may have ended by the next attempt",
}
"""The exceptions after which a task is tried again, and why that may help. Any other would be raised again."""

AWAY = {errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH}
"""An OSError with one of these numbers, for which Python has no class, is transient too: a host cannot be reached."""

LONGEST_CHAIN = 16
"""The most exceptions that are looked at of those that led to one another."""


@contextmanager
def model_code(method: str) -> Iterator[None]:
    """Inside of this block a model's method of this name runs, on any thread.

    Errors of `penstock.errors` pass, as do Interrupted and DeviceBroken. Anything else, also SystemExit, is raised as
    ModelError from it, or as TransientModelError when a table here says so.
    """
    try:
        yield
    except (PenstockError, DeviceBroken, Interrupted):
        raise
    except BaseException as error:
        raise model_error(method, error) from error


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
    return kind(f"the model raised {type(error).__name__[:100]} in {method}; the task's log has the traceback")


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
