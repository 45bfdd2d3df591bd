"""Logs as they are for a test that sets none up: nothing is printed, and what a test listens to in loguru comes."""

import logging

from loguru import logger

from penstock.settings import TelemetrySettings
from penstock.telemetry.logs import set_up_logs


def quiet_logs() -> None:
    """Undo `set_up_logs`, after which lines of JSON go past loguru, for the tests that come next in this process."""
    set_up_logs(TelemetrySettings(log_format="human"), process="tests")
    logger.remove()
    logging.basicConfig(handlers=[logging.NullHandler()], force=True)
