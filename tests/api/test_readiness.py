"""What /readyz says of a storage that is silent, frozen or wrong: within a second, from the last check."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from msgspec.structs import replace

from penstock.errors import StorageUnavailable
from penstock.settings import Settings, StorageSettings
from penstock.storage import LocalStorage
from penstock.upkeep import watches
from tests.support import api_server
from tests.support import s3_server as servers
from tests.support.drive import body, data_uri, large_photo
from tests.support.faulty import Fault, Peer, http, peer_of

ANSWERED_WITHIN_S = 1.0


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage is checked, found silent and given up in a tenth of the usual time."""
    assert watches.CHECK_PAUSE_S + watches.SLOW_S < 10, "a silent storage is named within seconds"
    for name in ("CHECK_PAUSE_S", "RETRY_PAUSE_S", "SLOW_S"):
        monkeypatch.setattr(watches, name, getattr(watches, name) / 10)
    monkeypatch.setattr("penstock.storage.s3_client.ANSWER_WITHIN_S", 3.0)


@pytest.fixture
async def peer(s3_server: StorageSettings) -> AsyncIterator[Peer]:
    async with peer_of(s3_server.s3_endpoint) as peer:
        yield peer


async def until(client: httpx.AsyncClient, status: int, within_s: float = 60) -> httpx.Response:
    """/readyz, once it answers so; every answer on the way has come in time."""
    give_up = time.monotonic() + within_s
    while True:
        answer = await client.get("/readyz")
        assert answer.elapsed.total_seconds() < ANSWERED_WITHIN_S
        if answer.status_code == status:
            return answer
        assert time.monotonic() < give_up, answer.text
        await asyncio.sleep(0.1)


@pytest.mark.usefixtures("impatient")
async def test_a_storage_that_falls_silent_is_named_within_seconds_and_no_answer_waits_for_it(
    settings: Settings, s3_server: StorageSettings, peer: Peer
) -> None:
    behind = replace(settings, storage=replace(s3_server, s3_endpoint=peer.url))
    with api_server.in_thread(behind) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            well = await until(client, 200)
            peer.fault = Fault(silent=True)
            ill = await until(client, 503)
            peer.fault = Fault()
            again = await until(client, 200, within_s=60)

    assert well.json()["storage"] == again.json()["storage"] == "ok"
    assert ill.json()["code"] == "not_ready"
    assert ill.json()["detail"].startswith("storage: it has not answered for ")


async def test_the_first_answer_does_not_wait_for_a_silent_storage_either(
    settings: Settings, s3_server: StorageSettings, peer: Peer
) -> None:
    peer.fault = Fault(silent=True)
    behind = replace(settings, storage=replace(s3_server, s3_endpoint=peer.url))
    with api_server.in_thread(behind) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            answers = await asyncio.gather(*(client.get("/readyz") for _ in range(20)), client.get("/startupz"))

    assert {answer.status_code for answer in answers} == {503}
    assert max(answer.elapsed.total_seconds() for answer in answers) < 2 * ANSWERED_WITHIN_S
    assert all("storage: it has not answered yet" in answer.json()["detail"] for answer in answers)


@pytest.mark.usefixtures("impatient")
async def test_a_frozen_s3_server_is_named(settings: Settings, tmp_path: Path) -> None:
    with servers.running(tmp_path) as place, api_server.in_thread(replace(settings, storage=place)) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            await until(client, 200)
            frozen = [int(pid) for pid in children_of(os.getpid()) if b"weed" in command_of(pid)]
            assert frozen
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            try:
                ill = await until(client, 503)
            finally:
                for pid in frozen:
                    os.kill(pid, signal.SIGCONT)
            await until(client, 200, within_s=60)

    assert "storage: it has not answered" in ill.json()["detail"]


def children_of(pid: int) -> list[str]:
    """All processes below one."""
    found: list[str] = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and parent_of(entry.name) == str(pid):
            found += [entry.name, *children_of(int(entry.name))]
    return found


def parent_of(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    except OSError:
        return ""


def command_of(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


async def test_an_answer_that_no_storage_gives_makes_it_503_and_never_500(
    settings: Settings, s3_server: StorageSettings, peer: Peer
) -> None:
    peer.fault = Fault(answer=http("200 OK", "<html><body>Please log in</body></html>", "text/html"))
    behind = replace(settings, storage=replace(s3_server, s3_endpoint=peer.url))
    with api_server.in_thread(behind) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            ill = await until(client, 503)

    assert "check storage.s3_endpoint" in ill.json()["detail"]


async def test_a_submit_whose_input_cannot_be_stored_ends(
    settings: Settings, s3_server: StorageSettings, peer: Peer, api_key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.storage.s3_client.ANSWER_WITHIN_S", 1.0)
    peer.fault = Fault(silent=True, methods=("PUT",), match="/inputs/")
    behind = replace(settings, storage=replace(s3_server, s3_endpoint=peer.url))
    with api_server.in_thread(behind) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}, timeout=30) as client:
            answer = await client.post("/v1/tasks", json=body(image_url=data_uri(large_photo())))

    assert (answer.status_code, answer.json()["code"]) == (503, "storage_unavailable")


class Hanging(LocalStorage):
    """A directory on a network that does not answer; `checks` counts the threads it would hold."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.checks = 0
        self.answer = asyncio.Event()

    async def check(self) -> None:
        self.checks += 1
        await self.answer.wait()


async def test_a_check_that_hangs_is_not_abandoned_for_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "SLOW_S", 0.02)
    watch, storage = watches.StorageWatch(), Hanging(tmp_path)
    watching = asyncio.create_task(watch.run(storage))
    while "has not answered for" not in str((await watch.last()).problem):
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)

    assert storage.checks == 1
    storage.answer.set()
    await watch.succeeded.wait()
    assert (await watch.last()).problem is None
    watching.cancel()


@pytest.mark.parametrize("error", [StorageUnavailable("no room"), ValueError("a bug")])
async def test_whatever_a_check_raises_is_a_problem_and_the_watch_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(watches, "RETRY_PAUSE_S", 0.01)
    errors: list[Exception] = [error]

    class Failing(LocalStorage):
        async def check(self) -> None:
            if errors:
                raise errors.pop()

    watch = watches.StorageWatch()
    watching = asyncio.create_task(watch.run(Failing(tmp_path)))
    first = await watch.last()
    await watch.succeeded.wait()

    assert first.problem in ("no room", "the check of it failed with ValueError")
    watching.cancel()
