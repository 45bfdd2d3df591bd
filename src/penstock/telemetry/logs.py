"""Logs: one JSON object a line, or a human form on a terminal."""

import logging
import sys
from typing import Any

import msgspec
from loguru import logger

from penstock.settings import TelemetrySettings

HUMAN = "<dim>{time:HH:mm:ss.SSS}</dim> <level>{level: <7}</level> {message} <dim>{extra}</dim>"


def set_up_logs(settings: TelemetrySettings, *, process: str) -> None:
    """Send all logs, those of libraries too, to stderr: one JSON object a line, or a human form on a terminal.

    Local variables never appear in tracebacks: they hold keys.
    """
    human = settings.log_format == "human" or (settings.log_format == "auto" and sys.stderr.isatty())
    logger.remove()
    logger.configure(extra={"process": process})
    options: dict[str, Any] = {"level": settings.log_level, "diagnose": False, "backtrace": False}
    if human:
        logger.add(sys.stderr, format=HUMAN, **options)
    else:
        logger.add(_write_json, format="{message}", **options)
    logging.basicConfig(handlers=[_Intercept()], level=logging.WARNING, force=True)


def _write_json(message: Any) -> None:
    record = message.record
    line = {"time": record["time"].isoformat(), "level": record["level"].name, "message": record["message"]}
    line |= record["extra"]
    if record["exception"]:
        line["exception"] = str(message).partition("\n")[2].strip()
    sys.stderr.write(msgspec.json.encode(line, enc_hook=str).decode() + "\n")


class _Intercept(logging.Handler):
    """Records of the standard library's logging, such as uvicorn's, as loguru's."""

    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname if record.levelname in _LEVELS else "WARNING"
        logger.bind(logger=record.name).opt(exception=record.exc_info).log(level, "{}", record.getMessage())


_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
