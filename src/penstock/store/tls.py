"""TLS to Redis: certificates are read once for all connections, and anew when a file has changed."""

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from redis.asyncio.connection import RedisSSLContext, SSLConnection

OPTIONS = ("keyfile", "certfile", "cert_reqs", "ca_certs", "ca_data", "check_hostname", "min_version", "ciphers")
FILES = ("keyfile", "certfile", "ca_certs")

_read: dict[tuple[Any, ...], tuple[tuple[Any, ...], ssl.SSLContext | OSError]] = {}
"""Options -> the files as they were when they were read, and what became of them; `SSLError` is an `OSError`."""


class TlsConnection(SSLConnection):
    """A connection that shares its context with all that have the same options. To read the CAs of a machine takes
    60 ms of CPU, and a client of a Redis that is away tries to connect many times in a second. A certificate that is
    renewed in its file is used from the next connection on."""

    def _connection_arguments(self) -> Mapping[str, Any]:
        self.ssl_context.context = _context_of(self.ssl_context)
        return super()._connection_arguments()


def _context_of(given: RedisSSLContext) -> ssl.SSLContext:
    """Raises `OSError` when a file cannot be read or is none of a certificate."""
    options = tuple(getattr(given, name) for name in OPTIONS)
    files = tuple(_state_of(path) for name in FILES if (path := getattr(given, name)))
    known, made = _read.get(options, (None, None))
    if made is None or known != files:
        made = _made_of(given)
        _read[options] = files, made
    if isinstance(made, OSError):
        raise made.with_traceback(None)
    return made


def _made_of(given: RedisSSLContext) -> ssl.SSLContext | OSError:
    given.context = None
    try:
        return given.get()
    except OSError as error:
        return error


def _state_of(path: str) -> tuple[int, int, int]:
    found = Path(path).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns
