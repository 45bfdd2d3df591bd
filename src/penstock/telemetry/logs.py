"""Logs on stderr: one JSON object for each line, or a readable form on a terminal."""

import logging
import sys
from contextvars import ContextVar
from datetime import datetime
from typing import Any

import msgspec
from loguru import logger
from msgspec import Struct

from penstock.settings import TelemetrySettings
from penstock.telemetry.terminal_lines import terminal_line

request_fields: ContextVar[dict[str, str] | None] = ContextVar("request_fields", default=None)
"""Fields of every line that is written while a request is worked on."""


def set_up_logs(settings: TelemetrySettings, *, process: str) -> None:
    """Send all logs to stderr, those of libraries as well. `process` is a field of every line.

    Tracebacks never show local variables, since these may hold keys.
    """
    human = settings.log_format == "human" or (settings.log_format == "auto" and sys.stderr.isatty())
    logger.remove()
    logger.configure(extra={"process": process}, patcher=_add_request_fields)
    options: dict[str, Any] = {"level": settings.log_level, "diagnose": False, "backtrace": False}
    if human:
        logger.add(_write, format=terminal_line, colorize=sys.stderr.isatty(), **options)
    else:
        logger.add(_write_json, format="{message}", **options)
    _request_lines.process = None if human else process
    _request_lines.levels = frozenset(_LEVELS[_LEVELS.index(settings.log_level) :])
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)


def write_request(level: str, *, method: str, route: str, status: int, ms: float) -> None:
    """Write the line of a request that is answered, with its `request_fields`.

    It is that of `logger.log(level, "request")`, but as JSON it does not go through loguru, which makes 30 calls of it.
    """
    fields = {"method": method, "route": route, "status": status, "ms": ms}
    if _request_lines.process is None:
        logger.bind(**fields).log(level, "request")
    elif level in _request_lines.levels:
        line: dict[str, Any] = {"time": datetime.now().astimezone().isoformat(), "level": level, "message": "request"}
        line |= {"process": _request_lines.process} | (request_fields.get() or {}) | fields
        try:  # noqa: SIM105  suppress would be three calls
            _write(msgspec.json.encode(line).decode() + "\n")
        except (OSError, ValueError):  # a full disk or a closed pipe is no reason to end a connection
            pass


def _add_request_fields(record: Any) -> None:
    record["extra"] |= request_fields.get() or {}


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


class _RequestLines(Struct):
    """How the lines of requests are written: as JSON if `process` is known, else by loguru."""

    process: str | None = None
    levels: frozenset[str] = frozenset()


_request_lines = _RequestLines()


class _Intercept(logging.Handler):
    """Passes records of the standard library's logging, such as those of uvicorn, on to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in _LEVELS else "WARNING"
        logger.bind(logger=record.name).opt(exception=record.exc_info).log(level, "{}", record.getMessage())


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
