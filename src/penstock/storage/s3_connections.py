"""Connections of the vendor's client to the storage, which end soon when their path has died without a word.

It relies on these internals of aiobotocore and aiohttp: `_connector_args`, `_sessions` and `_get_session` of the pool,
`_retry_connection` of a session, and `_conns` of the connector, whose idle connections it closes.
tests/storage/test_s3_connections.py fails when one of them changes.
"""

import socket
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession
from botocore.exceptions import BotoCoreError

SILENT_S = 3
"""A connection on which nothing that was sent is acknowledged for so long is dead: a firewall has forgotten it, or the
host is gone. The kernel alone would try for a quarter of an hour, and the vendor's client for 20 s, three times."""


class S3Connections(AIOHTTPSession):  # type: ignore[misc]
    """The vendor's pool of connections. When one has failed, no other idle one is used again: what has ended it may
    have ended all of them, and each would cost its own wait."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connector_args: dict[str, Any] = {**self._connector_args, "socket_factory": _socket}

    async def _get_session(self, proxy_url: Any) -> Any:
        session = await super()._get_session(proxy_url)
        session._retry_connection = False  # it would try the next idle connection, beside the vendor's own tries
        return session

    async def send(self, request: Any) -> Any:
        """Sends a request, and returns the answer. Raises what the vendor raises."""
        try:
            return await super().send(request)
        except BotoCoreError:
            self._close_idle()
            raise

    def _close_idle(self) -> None:
        for session in self._sessions.values():
            for idle in (session.connector._conns if session.connector else {}).values():
                for protocol, _ in idle:
                    protocol.close()


def _socket(address_info: Any) -> socket.socket:
    family, kind, protocol, _, _ = address_info
    made = socket.socket(family, kind, protocol)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # of Linux alone
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_S * 1000)
    return made
