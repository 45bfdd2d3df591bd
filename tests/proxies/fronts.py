"""nginx and Caddy with the files that are shipped; only names, ports and certificates are those of a test."""

import os
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
import trustme

from tests.support.redis_server import free_port

PROXY = Path(__file__).parents[2] / "deploy/proxy"
DEFAULT_READ_TIMEOUT_S = 2
"""What nginx has here where the shipped file says nothing; by itself it has 60 s."""


class Front:
    """A running proxy: its URL for clients, and what they must trust."""

    def __init__(self, url: str, verify: ssl.SSLContext | bool) -> None:
        self.url = url
        self._verify = verify

    def client(self, address: str = "127.0.0.1", **headers: str) -> httpx.Client:
        """Returns a client that comes from this address."""
        transport = httpx.HTTPTransport(verify=self._verify, local_address=address)
        return httpx.Client(base_url=self.url, headers=headers, transport=transport, timeout=100)


@contextmanager
def nginx(folder: Path, ports: Sequence[int], *, without: str = "") -> Iterator[Front]:
    """Runs nginx in front of these ports of this machine. The line `without` is left out of the shipped file."""
    port = free_port()
    certificate, key, verify = _certificate(folder)
    text = (PROXY / "nginx.conf").read_text()
    servers = "".join(f"    server 127.0.0.1:{one} max_fails=1 fail_timeout=2s;\n" for one in ports)
    for shipped, here in {
        "    server 127.0.0.1:8000 max_fails=1 fail_timeout=2s;\n": servers,
        "listen 80;": f"listen 127.0.0.1:{free_port()};",
        "listen 443 ssl http2;": f"listen 127.0.0.1:{port} ssl http2;",
        "/etc/letsencrypt/live/images.example.com/fullchain.pem": str(certificate),
        "/etc/letsencrypt/live/images.example.com/privkey.pem": str(key),
        **({without: ""} if without else {}),
    }.items():
        assert shipped in text, shipped
        text = text.replace(shipped, here)
    (folder / "penstock.conf").write_text(text)
    (folder / "nginx.conf").write_text(
        f"user {os.environ.get('USER', 'root')};\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{\naccess_log off;\nproxy_read_timeout {DEFAULT_READ_TIMEOUT_S}s;\n"
        f"client_body_temp_path {folder}/bodies;\nproxy_temp_path {folder}/answers;\n"
        f"fastcgi_temp_path {folder}/f;\nuwsgi_temp_path {folder}/u;\nscgi_temp_path {folder}/s;\n"
        f"include {folder}/penstock.conf;\n}}\n"
    )
    command = [_program("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
    with _running(command, folder, port):
        yield Front(f"https://localhost:{port}", verify)


@contextmanager
def caddy(folder: Path, ports: Sequence[int]) -> Iterator[Front]:
    """Runs Caddy in front of one port of this machine. It gets no certificate: for a name it would ask for one."""
    port, (behind,) = free_port(), ports
    command = [_program("caddy"), "run", "--adapter", "caddyfile", "--config", str(PROXY / "Caddyfile")]
    places = {"SITE": f":{port}", "API_HOST": "127.0.0.1", "API_PORT": str(behind)}
    with _running(command, folder, port, HOME=str(folder), XDG_DATA_HOME=str(folder), **places):
        yield Front(f"http://127.0.0.1:{port}", verify=True)


FRONTS = {"nginx": nginx, "caddy": caddy}


def _program(name: str) -> str:
    return shutil.which(name) or pytest.skip(f"{name} is not installed (Debian: apt install {name})")


def _certificate(folder: Path) -> tuple[Path, Path, ssl.SSLContext]:
    authority = trustme.CA()
    issued = authority.issue_cert("localhost")
    verify = ssl.create_default_context()
    authority.configure_trust(verify)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(key))
    return certificate, key, verify


@contextmanager
def _running(command: Sequence[str], folder: Path, port: int, **environ: str) -> Iterator[None]:
    log = folder / "proxy.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=os.environ | environ, stdout=out, stderr=out)
    try:
        give_up = time.monotonic() + 30
        while not _listens(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < give_up, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False
