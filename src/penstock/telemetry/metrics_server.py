"""The HTTP server on a port for metrics: connections that say nothing, or take nothing, hold little and no other up."""

import socket
from contextlib import suppress
from socketserver import ThreadingMixIn
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer
from wsgiref.types import WSGIApplication

MOST_CONNECTIONS = 32
"""More than anybody scrapes with at a time; each has a thread."""
SILENT_S = 10.0
"""The longest that a client may send nothing of its request, or take nothing of its answer."""


def serve_app(host: str, port: int, app: WSGIApplication) -> int:
    """Serve this from a thread. Returns the port, which the system chooses for port 0. Raises OSError."""
    server = _MetricsServer(host, port)
    server.set_app(app)
    Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    return int(server.server_port)


class _Handler(WSGIRequestHandler):
    timeout = SILENT_S

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the name of the library
        pass


class _MetricsServer(ThreadingMixIn, WSGIServer):
    """The oldest connection makes room for one too many: a scrape gets in, however many others are held open."""

    daemon_threads = True
    request_queue_size = 128  # a scrape behind a few new connections waits for seconds where the queue is shorter

    def __init__(self, host: str, port: int) -> None:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        self.address_family, at = found[0][0], found[0][4]
        self._open: list[Any] = []
        super().__init__((str(at[0]), int(at[1])), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.append(request)
        if len(self._open) > MOST_CONNECTIONS:
            with suppress(OSError):  # its client has gone
                self._open.pop(0).shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with suppress(ValueError):  # it has made room
            self._open.remove(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves early is no error."""
