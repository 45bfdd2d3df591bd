"""Sends what a model logs, prints and warns of to the logs of its tasks, beside the places where it goes anyway."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from loguru import logger

from penstock.worker.task_log import SCOPE


@contextmanager
def capturing(level: str) -> Iterator[None]:
    """Inside of this block, and of `model_code`, task logs get messages of loguru and logging from this level on,
    warnings, and what is written to stdout and stderr.

    `level` is that of the operator's log. Messages of logging below WARNING still do not go there.
    """
    root, streams = logging.getLogger(), (sys.stdout, sys.stderr)
    levels, handlers, handler = root.level, {one: one.level for one in root.handlers}, _FromLogging(level)
    sink = logger.add(_from_loguru, level=level, format="{message}", filter=_is_own, diagnose=False, backtrace=False)
    for other in handlers:
        other.setLevel(max(other.level, levels))  # they get no more than before
    root.setLevel(min(root.level, handler.level))
    root.addHandler(handler)
    logging.captureWarnings(True)
    sys.stdout, sys.stderr = (cast("TextIO", _Tee(stream)) for stream in streams)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = streams
        logging.captureWarnings(False)
        root.removeHandler(handler)
        root.setLevel(levels)
        for other, before in handlers.items():
            other.setLevel(before)
        logger.remove(sink)


class _FromLogging(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        scope = SCOPE.get()
        if scope is not None:
            scope.say(f"{record.levelname} {self.format(record)}")


def _from_loguru(message: Any) -> None:
    scope = SCOPE.get()
    if scope is not None:
        scope.say(f"{message.record['level'].name} {str(message).rstrip()}")


def _is_own(record: Any) -> bool:
    # What the operator's log has from logging has the name of its logger; the handler above has it, too.
    return SCOPE.get() is not None and "logger" not in record["extra"]


class _Tee:
    """A stream that also writes to the log of the task whose code runs; `behind` is the stream itself."""

    def __init__(self, behind: TextIO) -> None:
        self.behind = behind

    def write(self, text: str) -> int:
        scope = SCOPE.get()
        if scope is not None:
            scope.write(text)
        return self.behind.write(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.behind, name)
