"""Outages: what a loop says while something that it needs is away.

How long that lasts is in the metrics `store.up` and `storage.up`.
"""

from typing import Any

from loguru import logger


class Outage:
    """Logs why a loop cannot go on: at its first try that fails, and when the reason is another than before.

    Loops try again about once a second, for as long as the outage lasts: a line for each try would fill the log of each
    process, and hide what else is in it. That Redis or the storage is there again is said by their watches.
    """

    def __init__(self, message: str, **about: Any) -> None:
        """`about` is what the log has beside the message and the reason."""
        self._message = message
        self._about = about
        self._reason: str | None = None

    def note(self, reason: str) -> None:
        """A try has failed."""
        if reason != self._reason:
            logger.bind(**self._about, reason=reason).warning(self._message)
        self._reason = reason

    def over(self) -> None:
        """A try has succeeded."""
        self._reason = None
