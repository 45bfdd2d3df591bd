"""A healthy client in a process of its own, which asks again and again over new connections and notes each wait.

    python -m tools.attack.prober URL ADDRESS

It ends at the end of its input, and writes the moment and the wait of each request as one JSON line.
"""

import json
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

EVERY_S = 0.01
GIVES_UP_S = 20.0
_REQUEST = b"GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"


class Waits:
    """What a prober has noted, when it has ended."""

    def __init__(self) -> None:
        self.rows: list[tuple[float, float]] = []

    def longest(self, began: float, ended: float) -> float:
        """Return the longest wait of a request that began between these moments (of `time.monotonic`)."""
        return max((took for at, took in self.rows if began <= at <= ended), default=0.0)


@contextmanager
def probing(url: str, address: str) -> Iterator[Waits]:
    """Let a prober run beside this block; what it has noted is there after it."""
    command = [sys.executable, "-m", "tools.attack.prober", url, address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    waits = Waits()
    try:
        yield waits
    finally:
        written, _ = process.communicate("\n")
        waits.rows = [(at, took) for at, took in json.loads(written)]


def probe(host: str, port: int, source: str) -> float:
    """Return how long one request waited for its answer; a failure counts as the longest wait."""
    began = time.monotonic()
    try:
        with socket.create_connection((host, port), timeout=GIVES_UP_S, source_address=(source, 0)) as connection:
            connection.sendall(_REQUEST)
            answer = connection.recv(65_536)
            if not answer.startswith(b"HTTP/1.1 200"):
                print(f"the healthy client got {answer[:60]!r}", file=sys.stderr)
                return GIVES_UP_S
    except OSError as error:
        print(f"the healthy client got {error!r}", file=sys.stderr)
        return GIVES_UP_S
    return time.monotonic() - began


def main(url: str, source: str) -> None:
    """Probe until there is something on the standard input."""
    at = urlsplit(url)
    rows = []
    while not select.select([sys.stdin], [], [], EVERY_S)[0]:
        began = time.monotonic()
        rows.append((began, probe(str(at.hostname), at.port or 80, source)))
    print(json.dumps(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
