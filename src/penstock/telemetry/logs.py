"""Logs on stderr: one JSON object for each line, or a readable form on a terminal."""

import logging
import sys
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import msgspec
from loguru import logger
from msgspec import Struct

from penstock.settings import TelemetrySettings
from penstock.telemetry.terminal_lines import terminal_line

line_fields: ContextVar[Mapping[str, str | int | None] | None] = ContextVar("line_fields", default=None)
"""Fields of every line that is written while a request or an attempt is worked on."""


def set_up_logs(settings: TelemetrySettings, *, process: str) -> None:
    """Send all logs to stderr, those of libraries as well. `process` is a field of every line.

    Tracebacks never show local variables, since these may hold keys.
    """
    human = settings.log_format == "human" or (settings.log_format == "auto" and sys.stderr.isatty())
    logger.remove()
    logger.configure(extra={"process": process}, patcher=_add_line_fields)
    options: dict[str, Any] = {"level": settings.log_level, "diagnose": False, "backtrace": False}
    if human:
        logger.add(_write, format=terminal_line, colorize=sys.stderr.isatty(), **options)
    else:
        logger.add(_write_json, format="{message}", **options)
    _lines.process = None if human else process
    _lines.levels = frozenset(_LEVELS[_LEVELS.index(settings.log_level) :])
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)


def write_line(level: str, message: str, **fields: Any) -> None:
    """Write a line that there is for each request or task, with its `line_fields` and these.

    It is that of `logger.bind(**fields).log(level, message)`, but as JSON it does not go through loguru, which makes 30
    calls of it.
    """
    around: Mapping[str, Any] = line_fields.get() or {}
    if _lines.process is None:
        logger.bind(**around, **fields).log(level, message)
    elif level in _lines.levels:
        line: dict[str, Any] = {"time": datetime.now().astimezone().isoformat(), "level": level, "message": message}
        line.update(around, process=_lines.process, **fields)
        try:  # noqa: SIM105  suppress would be three calls
            _write(msgspec.json.encode(line).decode() + "\n")
        except (OSError, ValueError):  # a full disk or a closed pipe is no reason to end what the line is about
            pass


def _add_line_fields(record: Any) -> None:
    record["extra"] |= line_fields.get() or {}


def _write_json(message: Any) -> None:
    record = message.record
    line = {"time": record["time"].isoformat(), "level": record["level"].name, "message": record["message"]}
    line |= record["extra"]
    if record["exception"]:
        line["exception"] = str(message).partition("\n")[2].strip()
    _write(msgspec.json.encode(line, enc_hook=str).decode() + "\n")


def _write(text: str) -> None:
    # A worker puts a stream in front that also writes to the logs of tasks, which have such a line by another way.
    getattr(sys.stderr, "behind", sys.stderr).write(text)


class _Lines(Struct):
    """How the lines of `write_line` are written: as JSON if `process` is known, else by loguru."""

    process: str | None = None
    levels: frozenset[str] = frozenset()


_lines = _Lines()


class _Intercept(logging.Handler):
    """Passes records of the standard library's logging, such as those of uvicorn, on to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in _LEVELS else "WARNING"
        logger.bind(logger=record.name).opt(exception=record.exc_info).log(level, "{}", record.getMessage())


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
