"""Logs on stderr: one JSON object for each line, or a readable form on a terminal."""

import logging
import sys
from typing import Any

import msgspec
from loguru import logger

from penstock.settings import TelemetrySettings
from penstock.telemetry.terminal_lines import terminal_line


def set_up_logs(settings: TelemetrySettings, *, process: str) -> None:
    """Send all logs to stderr, those of libraries as well. `process` is a field of every line.

    Tracebacks never show local variables, since these may hold keys.
    """
    human = settings.log_format == "human" or (settings.log_format == "auto" and sys.stderr.isatty())
    logger.remove()
    logger.configure(extra={"process": process})
    options: dict[str, Any] = {"level": settings.log_level, "diagnose": False, "backtrace": False}
    if human:
        logger.add(_write, format=terminal_line, colorize=sys.stderr.isatty(), **options)
    else:
        logger.add(_write_json, format="{message}", **options)
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)


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


class _Intercept(logging.Handler):
    """Passes records of the standard library's logging, such as those of uvicorn, on to loguru."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in _LEVELS else "WARNING"
        logger.bind(logger=record.name).opt(exception=record.exc_info).log(level, "{}", record.getMessage())


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
