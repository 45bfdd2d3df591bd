"""What the pages say about more than one host, done between hosts as a reader would."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from penstock.settings import StorageSettings, clean_environment
from tests.chaos.parts import ROOT, Part
from tests.hosts.machines import CannotMakeHosts, Network, check
from tests.support import redis_server, s3_server
from tests.support.pages import blocks

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(400)]
PASSWORD = "a-password-only-for-the-tests"
WITHIN_S = 120.0
SUBMIT = "penstock submit src/penstock/models/photo.jpg"
"""Ends well when its task has succeeded."""
VENV = ROOT / ".venv" / "bin"


class Hosts:
    """Runs commands on hosts, in a shell, with the settings that the page lets a reader export."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.exports = ""
        self._folder = folder
        self._parts: list[Part] = []
        path = f"{VENV}{os.pathsep}{Path(str(redis_server.binary())).parent}{os.pathsep}{os.environ['PATH']}"
        self._environ = clean_environment() | {"PATH": path}

    def address(self, name: str) -> str:
        return self.network.machine(name).address

    def start(self, name: str, command: str) -> Part:
        """Starts a command on a host."""
        log = self._folder / f"{name}-{len(self._parts)}.log"
        argv = ["bash", "-euc", f"{self.exports}\n{command}"]
        part = Part(name, argv, self._environ, log, self.network.machine(name).place)
        self._parts.append(part)
        part.start()
        return part

    def says(self, name: str, command: str) -> str:
        """Runs a command on a host until it succeeds; returns what it prints."""
        give_up = time.monotonic() + WITHIN_S
        while True:
            part = self.start(name, command)
            status, said = part.wait(WITHIN_S), part.log.read_text()
            if status == 0:
                return said
            assert time.monotonic() < give_up, f"{name}: {command}\n{said}\n{self.logs()}"
            time.sleep(1)

    def switch_off(self, name: str) -> None:
        """Takes the host away with everything that runs there."""
        machine = self.network.machine(name)
        self.network.cut(machine)
        for part in self._parts:
            if part.name == name:
                _end(part)

    def logs(self) -> str:
        return "\n".join(f"--- {part.log.name}\n{part.log.read_text()[-1500:]}" for part in self._parts[-8:])

    def close(self) -> None:
        for part in self._parts:
            _end(part)


def _end(part: Part) -> None:
    """Ends a command with all that it has started."""
    with suppress(ProcessLookupError):
        os.killpg(part.pid, signal.SIGKILL)
    part.wait(10)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    try:
        check()
    except CannotMakeHosts as reason:
        pytest.skip(str(reason))
    with Network() as network, network.machine("client").entered():
        hosts = Hosts(network, tmp_path)
        try:
            yield hosts
        finally:
            hosts.close()


@pytest.fixture
def bucket(hosts: Hosts, tmp_path: Path) -> Iterator[StorageSettings]:
    (tmp_path / "s3").mkdir()
    with s3_server.running(tmp_path / "s3", hosts.network.machine("s3").place) as settings:
        yield settings


def block(page: str, word: str) -> str:
    """The block of a page that has this word."""
    (found,) = [each.code for each in blocks((ROOT / "docs" / page).read_text()) if word in each.code]
    return found


def exports(bucket: StorageSettings, redis_url: str) -> str:
    """The block of the tutorial, with the reader's own values."""
    text = block("tutorials/two-gpus.md", "export REDIS_URL=redis://:PASSWORD")
    text = re.sub(r"redis://:PASSWORD@\S+", redis_url, text)
    text = text.replace("https://s3.example.com", bucket.s3_endpoint)
    text = text.replace("S3_BUCKET=penstock", f"S3_BUCKET={bucket.s3_bucket}")
    text = text.replace("ACCESS_KEY=...", f"ACCESS_KEY={bucket.s3_access_key}")
    text = text.replace("SECRET_KEY=...", f"SECRET_KEY={bucket.s3_secret_key}")
    return text + "export API_KEYS=me:0123456789abcdef PENSTOCK_API_KEY=0123456789abcdef GPU_IDS=cpu\n"


def test_the_tutorial_with_two_hosts_is_true(hosts: Hosts, bucket: StorageSettings, tmp_path: Path) -> None:
    text = block("tutorials/two-gpus.md", "requirepass PASSWORD").replace("PASSWORD", PASSWORD)
    *made, start = text.replace("> redis.conf", f"> {tmp_path}/redis.conf").strip().splitlines()
    hosts.says("redis", "; ".join(made).replace("/var/lib/penstock", str(tmp_path)))
    hosts.start("redis", f"exec {start.replace('redis.conf', f'{tmp_path}/redis.conf')}")
    hosts.exports = exports(bucket, f"redis://:{PASSWORD}@{hosts.address('redis')}:6379/0")
    assert "fail" not in hosts.says("api", "penstock doctor")
    hosts.start("api", "penstock api")
    hosts.start("gpu-1", "penstock worker")
    hosts.start("gpu-2", "penstock worker")

    hosts.says("api", '[ "$(penstock workers --json | grep -c .)" = 2 ]')
    hosts.says("api", SUBMIT + " --model image-scoring-v1")
    hosts.switch_off("gpu-1")
    hosts.says("api", SUBMIT + " --model superres-x4")


def test_the_page_about_sentinels_is_true(hosts: Hosts, bucket: StorageSettings, tmp_path: Path) -> None:
    names = ("one", "two", "three")
    page = "how-to/redis-high-availability.md"
    server, sentinel = block(page, "masterauth"), block(page, "sentinel monitor")
    for name in names:
        folder = tmp_path / name
        folder.mkdir()
        texts = {"redis.conf": server, "sentinel.conf": sentinel}
        for file, text in texts.items():
            text = text.replace("…", PASSWORD).replace("FIRST", hosts.address("one"))
            text = text.replace("# on two of them: ", "" if name != "one" else "# ")
            (folder / file).write_text(f"{text}\nbind {hosts.address(name)}\ndir {folder}\nprotected-mode no\n")
        hosts.start(name, f"redis-server {folder}/redis.conf")
    for name in names:
        hosts.says(name, f"redis-cli -h {hosts.address(name)} -a {PASSWORD} PING")
        hosts.start(name, f"redis-server {tmp_path}/{name}/sentinel.conf --sentinel")
    where = ",".join(f"{hosts.address(name)}:26379" for name in names)
    hosts.exports = exports(bucket, f"redis+sentinel://{where}/penstock")
    hosts.exports += f"export PENSTOCK_REDIS_PASSWORD={PASSWORD}\n"
    hosts.start("api", "penstock api")
    hosts.start("gpu-1", "penstock worker")
    hosts.says("api", SUBMIT + " --model image-scoring-v1")
    assert "3 sentinels" in hosts.says("api", "penstock doctor")

    hosts.switch_off("one")
    hosts.says("api", SUBMIT + " --model superres-x4")
