"""API and workers tell the service manager that has started them how they are, as units of `Type=notify` do."""

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.processes import Process
from tests.support.redis_server import free_port

BEATS = 3


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The socket at which a manager listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(60)
        yield listening


@pytest.mark.parametrize("command", [["api", "--port", "0"], ["api", "--port", "0", "--processes", "2"], ["worker"]])
def test_a_service_says_that_it_is_ready_that_it_lives_and_that_it_stops(
    manager: socket.socket, command: list[str], tmp_path: Path
) -> None:
    environ = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "300000",
        "API_KEYS": "me:a-key-only-for-the-tests",
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}",
        "GPU_IDS": "cpu",
        "PENSTOCK_API_LINGER_S": "0",
        "PENSTOCK_STORAGE_DIRECTORY": str(tmp_path / "objects"),
        "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
    }
    process = Process(command, environ, tmp_path / "log")
    try:
        assert manager.recv(100) == b"READY=1"
        assert {manager.recv(100) for _ in range(BEATS)} == {b"WATCHDOG=1"}
    finally:
        process.stop(signal.SIGTERM)

    told = [manager.recv(100)]
    while told[-1] != b"STOPPING=1":
        told.append(manager.recv(100))
