"""Webhooks against real receivers on loopback: good ones, broken ones and hostile ones."""

import asyncio
import base64
import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from loguru import logger
from msgspec.structs import replace
from standardwebhooks.webhooks import Webhook as Verifier

from penstock import __version__
from penstock.api.replicate.predictions import OutputLinks
from penstock.api.webhook_bodies import body_of
from penstock.core.batch import task_id_of
from penstock.core.events import Event, Webhook
from penstock.core.task import Outcome, Progress, Result, Task
from penstock.local.up import _with_webhook_secret
from penstock.net.guard import Policy
from penstock.settings import LimitSettings, Settings, WebhookSettings
from penstock.storage import Storage
from penstock.store import Engine, Outbox, Store, connect
from penstock.store.keys import Keys, endpoint_digest
from penstock.webhooks.dispatcher import Dispatcher
from penstock.webhooks.endpoint_pools import OTHERS_AT_ONCE, PROMPT_AT_ONCE, PROMPT_EACH
from penstock.webhooks.sender import MAX_RETRY_AFTER_S, PostOutcome, Sender
from tests.support import api_server, drive
from tests.support.stores import submission

OLD = f"whsec_{base64.b64encode(bytes(24)).decode()}"
NEW = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
ALL_ENDS = ("succeeded", "failed", "canceled", "expired")
SOON_S = 60.0


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Loopback and http allowed, and no time to lose."""
    return replace(
        settings,
        limits=replace(settings.limits, allow_networks=("127.0.0.0/8",)),
        webhooks=WebhookSettings(secrets=(NEW, OLD), allow_http=True, timeout_s=1.0, retries_s=(0.1, 0.1, 0.1)),
    )


@pytest.fixture
async def outbox(settings: Settings) -> AsyncIterator[Outbox]:
    async with connect(settings.redis) as client:
        yield Outbox(Engine(client, settings.redis.namespace, settings.queue))


# --- the receivers --------------------------------------------------------------------------------------------

Answering = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class Receiver:
    """Answers what `answering` says, and keeps what it was sent, with the moment."""

    def __init__(self, answering: Answering) -> None:
        self.answering = answering
        self.got: list[tuple[float, dict[str, str], str]] = []
        self.now = self.most_at_once = 0
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.got.append((time.monotonic(), headers, (await request.read()).decode()))
        self.now += 1
        self.most_at_once = max(self.now, self.most_at_once)
        try:
            return await self.answering(request)
        finally:
            self.now -= 1

    @property
    def ids(self) -> list[str]:
        return [headers["webhook-id"] for _, headers, _ in self.got]

    @property
    def said(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, _, body in self.got]

    async def has(self, count: int, *, within_s: float = SOON_S) -> None:
        async with asyncio.timeout(within_s):
            while len(self.got) < count:
                await asyncio.sleep(0.01)


def saying(*statuses: int, **headers: str) -> Answering:
    """One after the other, the last for ever."""
    left = list(statuses)

    async def answer(request: web.BaseRequest) -> web.Response:
        return web.Response(status=left.pop(0) if len(left) > 1 else left[0], headers=headers)

    return answer


async def hang(request: web.BaseRequest) -> web.Response:
    await asyncio.sleep(60)
    return web.Response()


@asynccontextmanager
async def receiving(answering: Answering, host: str = "127.0.0.1") -> AsyncIterator[Receiver]:
    receiver = Receiver(answering)
    runner = web.ServerRunner(web.Server(receiver.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0, backlog=1024)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/told?token=a%2Fb"
    try:
        yield receiver
    finally:
        await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving(saying(204)) as receiver:
        yield receiver


class LyingResolver(AbstractResolver):
    """Answers 127.0.0.1 to every name."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


# --- the tasks ------------------------------------------------------------------------------------------------


async def submitted(client: httpx.AsyncClient, receiver: Receiver, **options: Any) -> str:
    webhook = {"url": receiver.url} | options.pop("webhook", {})
    answer = await client.post("/v1/tasks", json=drive.body(webhook=webhook, **options))
    assert answer.status_code == 202, answer.text
    task_id: str = answer.json()["task_id"]
    return task_id


async def submitted_past_the_api(store: Store, url: str, events: tuple[Any, ...] = ALL_ENDS) -> str:
    made = submission()
    webhook = Webhook(url=url, events=events, base_url="http://here/")
    made = replace(made, request=replace(made.request, webhook=webhook))
    return (await store.tasks.submit(made, rate_limit=0)).id


async def webhook_of(client: httpx.AsyncClient, task_id: str) -> dict[str, Any]:
    webhook: dict[str, Any] = (await client.get(f"/v1/tasks/{task_id}")).json()["webhook"]
    return webhook


async def event_when(
    client: httpx.AsyncClient, task_id: str, is_so: Callable[[dict[str, Any]], bool]
) -> dict[str, Any]:
    """The last event of a task, as soon as it is so."""
    async with asyncio.timeout(SOON_S):
        while True:
            log = (await webhook_of(client, task_id))["log"]
            if log and is_so(log[-1]):
                event: dict[str, Any] = log[-1]
                return event
            await asyncio.sleep(0.02)


def is_settled(event: dict[str, Any]) -> bool:
    return event["status"] != "waiting"


def is_tried(event: dict[str, Any]) -> bool:
    return bool(event["deliveries"])


# --- what is told ---------------------------------------------------------------------------------------------


async def test_an_end_is_told_with_the_task_and_can_be_verified(
    client: httpx.AsyncClient, store: Store, storage: Storage, receiver: Receiver
) -> None:
    task_id = await submitted(client, receiver, metadata={"album": "42"})
    await drive.complete(store, storage, b"pixels")
    await receiver.has(1)
    event = await event_when(client, task_id, is_settled)

    _, headers, body = receiver.got[0]
    assert Verifier(NEW).verify(body, headers) == Verifier(OLD).verify(body, headers)
    assert headers["webhook-id"] == f"msg_{task_id}_succeeded_1"
    assert headers["user-agent"] == f"penstock/{__version__}"
    assert headers["content-type"] == "application/json"
    assert headers["traceparent"].startswith("00-")
    said = json.loads(body)
    task = (await client.get(f"/v1/tasks/{task_id}")).json()
    assert (said["type"], said["timestamp"][:10]) == ("task.succeeded", task["finished_at"][:10])
    del task["webhook"]
    assert said["data"] == task | {"sequence": 1}
    assert (event["status"], event["next_delivery_at"]) == ("delivered", None)
    assert [(d["outcome"], d["code"]) for d in event["deliveries"]] == [("delivered", 204)]
    metrics = (await client.get("/metrics")).text
    assert 'penstock_webhooks_attempts_total{event="succeeded",outcome="delivered"}' in metrics
    assert 'penstock_webhooks_lag_seconds_count{event="succeeded"}' in metrics


async def test_every_kind_of_end_is_told(
    client: httpx.AsyncClient, store: Store, storage: Storage, receiver: Receiver
) -> None:
    await submitted(client, receiver)
    await drive.fail(store)
    canceled = await submitted(client, receiver)
    await client.post(f"/v1/tasks/{canceled}/cancel")
    await submitted(client, receiver, start_within_s=1)
    await receiver.has(3)

    assert [said["type"] for said in receiver.said] == ["task.failed", "task.canceled", "task.expired"]
    assert [said["data"]["status"] for said in receiver.said] == ["FAILED", "CANCELED", "EXPIRED"]
    assert receiver.said[0]["data"]["error"]["code"] == "image_decode_failed"


async def test_only_what_was_asked_for_is_told(client: httpx.AsyncClient, store: Store, receiver: Receiver) -> None:
    quiet = await submitted(client, receiver, webhook={"events": ["succeeded"]})
    await drive.fail(store)
    told = await submitted(client, receiver, webhook={"events": ["failed"]})
    await drive.fail(store)
    await receiver.has(1)
    await event_when(client, told, is_settled)

    assert receiver.ids == [f"msg_{told}_failed_1"]
    assert (await webhook_of(client, quiet))["log"] == []


async def test_equal_tasks_that_share_a_run_are_each_told(
    client: httpx.AsyncClient, store: Store, storage: Storage, receiver: Receiver
) -> None:
    photo = drive.data_uri(drive.image())
    ids = [await submitted(client, receiver, image_url=photo) for _ in range(10)]
    await drive.complete(store, storage, b"pixels")
    ids.append(await submitted(client, receiver, image_url=photo))
    await receiver.has(11)

    assert Counter(receiver.ids) == Counter(f"msg_{task_id}_succeeded_1" for task_id in ids)
    assert receiver.most_at_once <= PROMPT_EACH


async def test_a_task_that_says_too_much_is_told_in_short(
    client: httpx.AsyncClient, store: Store, receiver: Receiver
) -> None:
    task_id = await submitted(client, receiver, metadata={f"{n}": "é" * 512 for n in range(16)}, client_request_id="c")
    big = await submitted(client, receiver, params={}, metadata={f"{n}": "🙂" * 512 for n in range(16)})
    await drive.fail(store)
    await drive.fail(store)
    await receiver.has(2)

    data = {said["data"]["task_id"]: said["data"] for said in receiver.said}
    assert "metadata" in data[task_id]
    assert data[big] == {
        "task_id": big,
        "client_request_id": None,
        "status": "FAILED",
        "links": {
            "self": f"/v1/tasks/{big}",
            "cancel": f"/v1/tasks/{big}/cancel",
            "events": f"/v1/tasks/{big}/events",
            "result": f"/v1/tasks/{big}/result",
        },
        "sequence": 1,
    }
    assert all(len(body.encode()) < 20_000 for _, _, body in receiver.got)


async def test_an_end_that_was_taken_back_is_told_in_short(store: Store, storage: Storage) -> None:
    task_id = await submitted_past_the_api(store, "https://hooks.example.com/")
    await drive.fail(store)
    await store.tasks.resubmit(task_id, "default")

    task = await store.tasks.get(task_id, "default")
    webhook = task.request.webhook
    assert webhook is not None
    said = json.loads(await body_of(storage, OutputLinks(lambda: b""))(task, task.events[0], webhook))

    assert task.state == "PENDING"
    assert (said["type"], said["data"]["status"]) == ("task.failed", "FAILED")
    assert "attempts" not in said["data"]


# --- what goes wrong ------------------------------------------------------------------------------------------


async def test_a_failed_delivery_is_repeated_under_its_id_with_a_signature_of_its_own(
    client: httpx.AsyncClient, store: Store
) -> None:
    async with receiving(saying(500, 404, 302, 200)) as receiver:
        task_id = await submitted(client, receiver)
        await drive.fail(store)
        event = await event_when(client, task_id, is_settled)

    assert set(receiver.ids) == {f"msg_{task_id}_failed_1"}
    for _, headers, body in receiver.got:
        Verifier(NEW).verify(body, headers)
    assert event["status"] == "delivered"
    outcomes = [(d["outcome"], d["code"]) for d in event["deliveries"]]
    assert outcomes == [("broken", 500), ("refused", 404), ("redirected", 302), ("delivered", 200)]


async def test_after_the_last_repetition_it_is_given_up(client: httpx.AsyncClient, store: Store) -> None:
    async with receiving(saying(500)) as receiver:
        task_id = await submitted(client, receiver)
        await drive.fail(store)
        event = await event_when(client, task_id, is_settled)
        await asyncio.sleep(0.3)

    assert (event["status"], event["next_delivery_at"], len(event["deliveries"])) == ("failed", None, 4)
    assert len(receiver.got) == 4


async def test_a_receiver_that_is_gone_is_not_asked_again(client: httpx.AsyncClient, store: Store) -> None:
    async with receiving(saying(410)) as receiver:
        task_id = await submitted(client, receiver)
        await drive.fail(store)
        event = await event_when(client, task_id, is_settled)
        await asyncio.sleep(0.3)

    assert (event["status"], [d["outcome"] for d in event["deliveries"]]) == ("failed", ["gone"])
    assert len(receiver.got) == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_receiver_that_asks_for_time_gets_it_for_all_its_events(
    client: httpx.AsyncClient, store: Store, status: int
) -> None:
    async with receiving(saying(status, **{"Retry-After": "120"})) as receiver:
        first = await submitted(client, receiver)
        await drive.fail(store)
        event = await event_when(client, first, is_tried)
        second = await submitted(client, receiver)
        await drive.fail(store)
        await asyncio.sleep(0.5)
        untried = (await webhook_of(client, second))["log"][0]

    assert [(d["outcome"], d["code"]) for d in event["deliveries"]] == [("busy", status)]
    assert 119 < timestamp(event["next_delivery_at"]) - timestamp(event["deliveries"][0]["at"]) < 125
    assert (untried["status"], untried["deliveries"]) == ("waiting", [])
    assert len(receiver.got) == 1


@pytest.mark.parametrize("retry_after", ["99999999999999", "Fri, 31 Dec 2150 23:59:59 GMT"])
async def test_a_receiver_gets_a_day_at_most(settings: Settings, retry_after: str) -> None:
    policy = Policy.from_limits(settings.limits, allow_http=True)
    async with (
        receiving(saying(429, **{"Retry-After": retry_after})) as receiver,
        Sender(policy, timeout_s=2) as sender,
    ):
        assert (await sender.post(receiver.url, {}, "{}")).retry_after_s == MAX_RETRY_AFTER_S


@pytest.mark.parametrize("retry_after", ["soon", "-5", "", "²"])
async def test_a_time_that_is_none_is_none(settings: Settings, retry_after: str) -> None:
    policy = Policy.from_limits(settings.limits, allow_http=True)
    async with (
        receiving(saying(429, **{"Retry-After": retry_after})) as receiver,
        Sender(policy, timeout_s=2) as sender,
    ):
        assert (await sender.post(receiver.url, {}, "{}")).retry_after_s == 0


async def test_a_receiver_that_hangs_is_sent_one_message_at_a_time_and_holds_up_nobody_else(
    client: httpx.AsyncClient, store: Store, receiver: Receiver
) -> None:
    async with receiving(hang) as hanging:
        for _ in range(3):
            await submitted(client, hanging)
            await drive.fail(store)
        await hanging.has(1)
        told = await submitted(client, receiver)
        await drive.fail(store)
        await receiver.has(1)

        assert len(hanging.got) == 1, "it was told while the other was still being waited for"
        assert receiver.ids == [f"msg_{told}_failed_1"]
        assert hanging.most_at_once == 1


async def test_a_receiver_that_answers_is_sent_more_at_a_time_until_it_hangs(settings: Settings, store: Store) -> None:
    is_hanging = asyncio.Event()

    async def for_a_while(request: web.BaseRequest) -> web.Response:
        return await (hang(request) if is_hanging.is_set() else saying(204)(request))

    patient = replace(settings, webhooks=replace(settings.webhooks, timeout_s=3.0))
    async with receiving(for_a_while) as receiver:
        with api_server.in_thread(patient):
            for count in (1, 10):
                for _ in range(count):
                    await submitted_past_the_api(store, receiver.url)
                    await drive.fail(store)
                await receiver.has(count)
            is_hanging.set()
            for _ in range(3 * PROMPT_EACH):
                await submitted_past_the_api(store, receiver.url)
                await drive.fail(store)
            await receiver.has(11 + PROMPT_EACH + 1)  # those have timed out, and it is tried again
            await asyncio.sleep(0.5)

            assert len(receiver.got) == 11 + PROMPT_EACH + 1, "with one at a time"


def everywhere(url: str, count: int) -> list[str]:
    """As many endpoints: the addresses of the loopback network all lead to a receiver on 0.0.0.0."""
    port = url.rpartition(":")[2]
    return [f"http://127.{1 + n // 65_000}.{n // 250 % 250}.{1 + n % 250}:{port}" for n in range(count)]


@pytest.mark.at_length
@pytest.mark.slow
async def test_however_many_receivers_hang_one_that_answers_is_not_held_up(
    settings: Settings, store: Store, receiver: Receiver
) -> None:
    """More than there are sockets for, and every one due before the one that answers."""
    allowed = replace(settings, limits=replace(settings.limits, allow_networks=("127.0.0.0/8",)))
    patient = replace(allowed, webhooks=replace(settings.webhooks, timeout_s=50.0))
    async with receiving(hang, "0.0.0.0") as hanging:
        with api_server.in_thread(patient):
            await submitted_past_the_api(store, receiver.url)
            await drive.fail(store)
            await receiver.has(1)
            for url in everywhere(hanging.url, OTHERS_AT_ONCE + 50):
                await submitted_past_the_api(store, url)
                await drive.fail(store)
            await hanging.has(OTHERS_AT_ONCE)
            told = [await submitted_past_the_api(store, receiver.url) for _ in range(20)]
            for _ in told:
                await drive.fail(store)
            await receiver.has(1 + len(told))

        assert len(hanging.got) == OTHERS_AT_ONCE, "no room for the others yet"
        assert hanging.most_at_once == OTHERS_AT_ONCE


def digest_of(url: str) -> str:
    return endpoint_digest("default", url)


async def until_prompt(settings: Settings, store: Store, urls: Sequence[str], receiver: Receiver) -> None:
    """Tells each endpoint of this receiver of a task, and again where a busy machine let its answer come late."""
    root = Keys(settings.redis.namespace).root
    async with asyncio.timeout(120), connect(settings.redis) as client:
        while missing := [url for url in urls if await client.zscore(f"{root}prompt", digest_of(url)) is None]:
            told = len(receiver.got) + len(missing)
            for url in missing:
                await submitted_past_the_api(store, url)
                await drive.fail(store)
            await receiver.has(told)
            while await client.exists(*(f"{root}outbox:{digest_of(url)}" for url in missing)):
                await asyncio.sleep(0.01)  # what has been answered is noted after that


@pytest.mark.slow
async def test_receivers_that_begin_to_hang_make_room_as_soon_as_they_are_not_prompt(
    settings: Settings, store: Store, receiver: Receiver
) -> None:
    is_hanging = asyncio.Event()

    async def for_a_while(request: web.BaseRequest) -> web.Response:
        return await (hang(request) if is_hanging.is_set() else saying(204)(request))

    patient = replace(settings, webhooks=replace(settings.webhooks, timeout_s=50.0))
    count = PROMPT_AT_ONCE // PROMPT_EACH
    async with receiving(for_a_while, "0.0.0.0") as turning:
        with api_server.in_thread(patient):
            await until_prompt(settings, store, [receiver.url], receiver)
            await until_prompt(settings, store, everywhere(turning.url, count), turning)
        told, answered = len(receiver.got), len(turning.got)
        is_hanging.set()
        # Nothing is delivered meanwhile: a busy machine may take so long that the first are not prompt before the last.
        for url in everywhere(turning.url, count) * PROMPT_EACH:
            await submitted_past_the_api(store, url)
            await drive.fail(store)
        with api_server.in_thread(patient):
            await turning.has(answered + PROMPT_AT_ONCE)
            await submitted_past_the_api(store, receiver.url)
            await drive.fail(store)
            await receiver.has(told + 1)

        assert turning.most_at_once == PROMPT_AT_ONCE, "they hang still"


async def drop(request: web.BaseRequest) -> web.Response:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


@pytest.mark.parametrize("answering", [None, hang, drop], ids=["closed", "hanging", "dropped"])
async def test_ss10_a_private_receiver_that_does_not_answer_gives_one_outcome_at_the_deadline(
    settings: Settings, answering: Answering | None
) -> None:
    policy = Policy.from_limits(settings.limits, allow_http=True)
    async with AsyncExitStack() as open_for, Sender(policy, timeout_s=0.3) as sender:
        receiver = await open_for.enter_async_context(receiving(answering or hang))
        if answering is None:
            await open_for.aclose()
        started = time.monotonic()
        outcome = await sender.post(receiver.url, {}, "{}")

    assert outcome == PostOutcome(verdict="timeout")
    assert time.monotonic() - started >= 0.299


async def test_lo1_neither_the_signature_of_a_source_nor_the_secret_of_a_receiver_is_in_an_answer_or_the_log(
    client: httpx.AsyncClient, store: Store
) -> None:
    said: list[str] = []
    sink = logger.add(said.append, level="TRACE", format="{message} {extra} {exception}")
    async with receiving(saying(500)) as receiver:
        asked = drive.body(image_url="https://source.example.com/a.png?X-Amz-Signature=swordfish")
        answers = [await client.post("/v1/tasks", json=asked | {"webhook": {"url": f"{receiver.url}&key=swordfish"}})]
        task_id = answers[0].json()["task_id"]
        await drive.fail(store)
        await event_when(client, task_id, is_settled)
        for path in ("", f"/{task_id}", f"/{task_id}/events", f"/{task_id}/explain", f"/{task_id}/result"):
            answers.append(await client.get(f"/v1/tasks{path}"))
    logger.remove(sink)

    assert [answer.status_code for answer in answers] == [202, 200, 200, 200, 200, 409]
    assert f'{receiver.url.partition("?")[0]}"' in answers[2].text
    assert [text for text in [*said, *(answer.text for answer in answers)] if "swordfish" in text] == []
    assert len(said) > 5


async def test_redelivery_keeps_the_id(client: httpx.AsyncClient, store: Store) -> None:
    async with receiving(saying(410, 200)) as receiver:
        task_id = await submitted(client, receiver)
        early = await client.post(f"/v1/tasks/{task_id}/webhook/redeliver")
        await drive.fail(store)
        await event_when(client, task_id, is_settled)
        again = await client.post(f"/v1/tasks/{task_id}/webhook/redeliver")
        event = await event_when(client, task_id, lambda event: event["status"] == "delivered")
        unknown = await client.post("/v1/tasks/tsk_0/webhook/redeliver")

    assert (early.status_code, early.json()["code"]) == (404, "webhook_not_found")
    assert again.status_code == 202
    assert receiver.ids == [f"msg_{task_id}_failed_1"] * 2
    assert [d["outcome"] for d in event["deliveries"]] == ["gone", "delivered"]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "task_not_found")


# --- what dies ------------------------------------------------------------------------------------------------


async def test_an_end_that_nobody_was_there_to_tell_is_told_later(
    settings: Settings, store: Store, receiver: Receiver
) -> None:
    ids = []
    for _ in range(200):
        ids.append(await submitted_past_the_api(store, receiver.url))
        await drive.fail(store)

    with api_server.in_thread(settings):
        await receiver.has(200)

    assert sorted(receiver.ids) == sorted(f"msg_{task_id}_failed_1" for task_id in ids)


@pytest.mark.slow
async def test_nothing_is_lost_when_the_one_who_delivers_is_killed(settings: Settings, store: Store) -> None:
    async def slowly(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.02)
        return web.Response()

    kills = 3
    async with receiving(slowly) as receiver:
        ids = []
        for _ in range(300):
            ids.append(await submitted_past_the_api(store, receiver.url))
            await drive.fail(store)
        for _ in range(kills):
            with await asyncio.to_thread(api_server.ServerProcess(settings).__enter__) as server:
                await receiver.has(len(receiver.got) + 20)
                os.kill(server.process.pid, signal.SIGKILL)
        with api_server.in_thread(settings):
            async with asyncio.timeout(30):
                while len(set(receiver.ids)) < 300:
                    await asyncio.sleep(0.02)

    assert set(receiver.ids) == {f"msg_{task_id}_failed_1" for task_id in ids}
    assert len(receiver.ids) - 300 <= kills * PROMPT_EACH, "only what was under way at a kill is sent twice"


async def test_two_who_deliver_tell_each_event_once(settings: Settings, store: Store, receiver: Receiver) -> None:
    with api_server.in_thread(settings), api_server.in_thread(settings):
        ids = []
        for _ in range(100):
            ids.append(await submitted_past_the_api(store, receiver.url))
            await drive.fail(store)
        await receiver.has(100)
        await asyncio.sleep(0.2)

    assert Counter(receiver.ids) == Counter(f"msg_{task_id}_failed_1" for task_id in ids)


# --- progress -------------------------------------------------------------------------------------------------


async def test_progress_is_told_now_and_then_and_never_after_the_end(client: httpx.AsyncClient, store: Store) -> None:
    async def slowly(request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.3)
        return web.Response()

    async with receiving(slowly) as receiver:
        task_id = await submitted(client, receiver, webhook={"events": ["progress", "failed"]})
        lease = await drive.claim(store)
        for done in range(1, 61):
            await store.leases.progress(lease, "infer", Progress(done=done, total=60))
            await asyncio.sleep(0.03)
        await receiver.has(3)
        assert await store.leases.fail(
            lease, drive.Outcome(error=drive.ErrorRecord(code="internal", message="", retryable=True))
        )
        event = await event_when(client, task_id, is_settled)
        await asyncio.sleep(0.7)

    types = [said["type"] for said in receiver.said]
    assert types == ["task.progress"] * (len(types) - 1) + ["task.failed"]
    moments = [moment for moment, _, _ in receiver.got[:-1]]
    assert all(later - earlier > 0.4 for earlier, later in pairwise(moments))
    sequences = [said["data"]["sequence"] for said in receiver.said]
    assert sequences == sorted(set(sequences))
    done = [said["data"]["progress"]["done"] for said in receiver.said[:-1]]
    assert done == sorted(set(done))
    assert event["sequence"] == sequences[-1]
    assert receiver.most_at_once == 1, "the end waits for the word of progress that is being said"


async def test_progress_that_fails_is_not_repeated(client: httpx.AsyncClient, store: Store) -> None:
    async with receiving(saying(500)) as receiver:
        await submitted(client, receiver, webhook={"events": ["progress"]})
        lease = await drive.claim(store)
        await store.leases.progress(lease, "infer", Progress(done=1, total=2))
        await receiver.has(1)
        await asyncio.sleep(0.5)

    assert len(receiver.got) == 1


# --- who may ask ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "https://localhost/",
        "https://10.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://metadata.google.internal/",
        "https://2130706433/",
        "https://[::1]/",
        "https://user:secret@hooks.example.com/",
        "https://hooks.example.com:22/",
        "file:///etc/passwd",
        "gopher://hooks.example.com/",
        "data:text/plain,hello",
        "https://hooks.example.com\\@127.0.0.1/",
    ],
)
async def test_ss1_a_webhook_to_a_forbidden_place_is_refused(client: httpx.AsyncClient, url: str) -> None:
    answer = await client.post("/v1/tasks", json=drive.body(webhook={"url": url}))

    assert (answer.status_code, answer.json()["code"]) == (422, "input_url_blocked")
    assert answer.json()["param"] == "webhook.url"
    assert (await client.get("/v1/tasks")).json()["data"] == []


def test_wh2_plain_http_is_refused_unless_allowed(settings: Settings, api_key: str) -> None:
    hook = {"url": "http://hooks.example.com/"}
    answers = []
    for allow_http in (False, True):
        webhooks = WebhookSettings(secrets=(NEW,), allow_http=allow_http)
        with api_server.in_thread(replace(settings, webhooks=webhooks)) as url:
            answers.append(httpx.post(f"{url}/v1/tasks", headers={"X-API-Key": api_key}, json=drive.body(webhook=hook)))

    assert [answer.status_code for answer in answers] == [422, 202]
    assert answers[0].json()["code"] == "input_url_blocked"


def test_without_a_secret_no_webhook_is_taken(settings: Settings, api_key: str) -> None:
    with api_server.in_thread(replace(settings, webhooks=WebhookSettings())) as url:
        answer = httpx.post(
            f"{url}/v1/tasks",
            headers={"X-API-Key": api_key},
            json=drive.body(webhook={"url": "https://hooks.example.com/"}),
        )

    assert (answer.status_code, answer.json()["code"], answer.json()["param"]) == (422, "webhooks_disabled", "webhook")


async def test_ss4_a_webhook_to_a_name_that_leads_inside_is_never_connected_to(
    settings: Settings, store: Store, storage: Storage, receiver: Receiver
) -> None:
    port = int(receiver.url.rpartition(":")[2].partition("/")[0])
    limits = LimitSettings(ports=(port,))
    task_id = await submitted_past_the_api(store, f"http://rebinding.example.com:{port}/")
    await drive.fail(store)
    dispatcher = Dispatcher(
        store, body_of(storage, OutputLinks(lambda: b"")), settings.webhooks, limits, resolver=LyingResolver()
    )

    async with AsyncExitStack() as closing:
        running = asyncio.create_task(dispatcher.run())
        closing.push_async_callback(lambda: asyncio.wait([running]))
        closing.callback(running.cancel)
        async with asyncio.timeout(SOON_S):
            while (task := await store.tasks.get(task_id, "default")).events[0].status != "failed":
                await asyncio.sleep(0.02)

    assert outcomes(task) == ["blocked"] * 4
    assert receiver.got == []


async def test_ss5_a_webhook_follows_no_redirect_wherever_it_leads(client: httpx.AsyncClient, store: Store) -> None:
    async with receiving(saying(200)) as inside:
        async with receiving(saying(301, 302, 307, 308, Location=inside.url)) as receiver:
            task_id = await submitted(client, receiver)
            await drive.fail(store)
            event = await event_when(client, task_id, is_settled)

        assert [d["code"] for d in event["deliveries"]] == [301, 302, 307, 308]
        assert inside.got == []


def test_up_makes_a_secret_once_and_keeps_it(tmp_path: Path) -> None:
    first, second = (_with_webhook_secret(Settings(), tmp_path).webhooks.secrets for _ in range(2))

    assert first == second
    assert Verifier(first[0])
    assert (tmp_path / "webhook-secret").stat().st_mode & 0o777 == 0o600


def outcomes(task: Task) -> list[str]:
    events: tuple[Event, ...] = task.events
    return [delivery.outcome for delivery in events[0].log]


def timestamp(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


async def test_the_end_of_a_batch_is_told(client: httpx.AsyncClient, store: Store, receiver: Receiver) -> None:
    async def submit(count: int) -> str:
        lines = [{"custom_id": f"{n}", "input": {"image_url": drive.URL}} for n in range(count)]
        said = {"defaults": {"model": drive.MODEL}, "lines": lines, "webhook": {"url": receiver.url}}
        return str((await client.post("/v1/batches", json=said)).raise_for_status().json()["batch_id"])

    async def finish_one(task_id: str) -> None:
        async with asyncio.timeout(SOON_S):
            while (lease := (await store.leases.claim(worker="w", device="cpu", models=[drive.MODEL])).lease) is None:
                await asyncio.sleep(0.01)
        assert lease.id == task_id
        assert await store.leases.complete(lease, Outcome(result=Result(data={"score": 1})))

    completed = await submit(2)
    for place in range(2):
        await finish_one(task_id_of(completed, place))
    await receiver.has(1)
    canceled = await submit(1)
    await client.post(f"/v1/batches/{canceled}/cancel")
    await receiver.has(2)
    await client.post(f"/v1/batches/{completed}/webhook/redeliver")
    await receiver.has(3)

    assert receiver.ids == [
        f"msg_{completed}_completed_1",
        f"msg_{canceled}_canceled_1",
        f"msg_{completed}_completed_1",
    ]
    for _, headers, text in receiver.got:
        Verifier(NEW).verify(text, headers)
    first, second, third = receiver.said
    assert (first["type"], first["data"]["status"]) == ("batch.completed", "COMPLETED")
    assert (first["data"]["batch_id"], first["data"]["counts"]["succeeded"]) == (completed, 2)
    assert (second["type"], second["data"]["counts"]["canceled"]) == ("batch.canceled", 1)
    assert third == first
    shown = (await client.get(f"/v1/batches/{completed}")).json()["webhook"]
    assert [(entry["type"], entry["status"]) for entry in shown["log"]] == [("batch.completed", "delivered")]


async def test_a_batch_may_tell_of_its_cancel_only(client: httpx.AsyncClient) -> None:
    line = {"custom_id": "1", "input": {"image_url": drive.URL}}
    for events, status in ((["canceled"], 202), (["succeeded"], 422)):
        webhook = {"url": "https://example.com/told", "events": events}
        said = {"defaults": {"model": drive.MODEL}, "lines": [line], "webhook": webhook}
        assert (await client.post("/v1/batches", json=said)).status_code == status
