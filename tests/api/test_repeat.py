"""Submits that are repeated, and submits that are too many."""

import asyncio
import hashlib
import re
from typing import Any

import httpx
import msgspec
import pytest

from penstock.settings import Settings
from penstock.store import Store
from tests.support import api_server
from tests.support.drive import body, claim, complete, data_uri, image, large_photo, stored_objects

pytestmark = pytest.mark.shared_server

# --- repeated -------------------------------------------------------------------------------------------------


async def test_fifty_submits_at_once_with_one_id_make_one_task(client: httpx.AsyncClient, settings: Settings) -> None:
    asked = body(client_request_id="order-1", image_url=data_uri(large_photo()))

    answers = await asyncio.gather(*(client.post("/v1/tasks", json=asked) for _ in range(50)))

    assert len({answer.json()["task_id"] for answer in answers}) == 1
    assert sorted(answer.status_code for answer in answers) == [200] * 49 + [202]
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 49
    assert len(stored_objects(settings)) == 1
    assert (await client.get("/v1/stats")).json()["tasks"]["PENDING"] == 1


async def test_a_repeated_submit_answers_with_the_task_as_it_is_now(
    client: httpx.AsyncClient, store: Store, storage: Any
) -> None:
    first = await client.post("/v1/tasks", json=body(client_request_id="order-1"))
    await complete(store, storage, b"result")

    again = await client.post("/v1/tasks", json=body(client_request_id="order-1"))

    assert again.status_code == 200
    assert again.json()["task_id"] == first.json()["task_id"]
    assert (again.json()["status"], again.json()["queue_position"]) == ("SUCCESS", None)


async def test_an_id_used_before_with_another_body_is_refused(client: httpx.AsyncClient) -> None:
    await client.post("/v1/tasks", json=body(client_request_id="order-1"))

    answer = await client.post("/v1/tasks", json=body(client_request_id="order-1", priority="low"))

    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_mismatch")
    assert answer.json()["param"] == "client_request_id"


async def test_the_order_of_members_does_not_make_another_body(client: httpx.AsyncClient) -> None:
    asked = body(client_request_id="order-1", metadata={"a": "1", "b": "2"})
    await client.post("/v1/tasks", json=asked)

    turned = dict(reversed(asked.items())) | {"metadata": {"b": "2", "a": "1"}, "priority": "normal"}
    answer = await client.post("/v1/tasks", json=turned)

    assert answer.status_code == 200


@pytest.mark.parametrize("header", ["order-1", '"order-1"'])
async def test_the_header_idempotency_key_is_another_place_for_the_id(client: httpx.AsyncClient, header: str) -> None:
    first = await client.post("/v1/tasks", json=body(client_request_id="order-1"))

    answer = await client.post("/v1/tasks", json=body(), headers={"Idempotency-Key": header})

    assert answer.json()["task_id"] == first.json()["task_id"]
    task = (await client.get(answer.headers["Location"])).json()
    assert task["client_request_id"] == "order-1"


@pytest.mark.parametrize(
    ("header", "status", "param"),
    [
        ("order-2", 422, "client_request_id"),
        ('"two words"', 422, "client_request_id"),
        ('"unclosed', 400, "Idempotency-Key"),
        ("two words", 400, "Idempotency-Key"),
    ],
)
async def test_an_idempotency_key_is_refused(client: httpx.AsyncClient, header: str, status: int, param: str) -> None:
    asked = body(client_request_id="order-1")

    answer = await client.post("/v1/tasks", json=asked, headers={"Idempotency-Key": header})

    assert (answer.status_code, answer.json()["param"]) == (status, param)


async def test_two_images_are_two_bodies(client: httpx.AsyncClient) -> None:
    await client.post("/v1/tasks", json=body(client_request_id="order-1", image_url=data_uri(image(8, 8))))

    answer = await client.post("/v1/tasks", json=body(client_request_id="order-1", image_url=data_uri(image(9, 9))))

    assert answer.json()["code"] == "idempotency_mismatch"


# --- limits ---------------------------------------------------------------------------------------------------


async def test_the_submit_limit_is_exact_over_two_servers(settings: Settings, api_key: str) -> None:
    limited = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, rate_limit_per_minute=10))
    headers = {"X-API-Key": api_key}

    with api_server.in_thread(limited) as one, api_server.in_thread(limited) as two:
        async with httpx.AsyncClient(headers=headers) as client:
            answers = await asyncio.gather(
                *(client.post(f"{(one, two)[n % 2]}/v1/tasks", json=body()) for n in range(30))
            )

    accepted = [answer for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code == 429]
    assert (len(accepted), len(refused)) == (10, 20)
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"submit";q=10;w=60'}
    left = sorted(int(re.fullmatch(r'"submit";r=(\d+);t=\d+', a.headers["RateLimit"])[1]) for a in accepted)  # type: ignore[index]
    assert left == list(range(10))
    for answer in refused:
        assert answer.json()["code"] == "rate_limited"
        assert answer.headers["RateLimit"] == f'"submit";r=0;t={answer.headers["Retry-After"]}'
        assert 0 < int(answer.headers["Retry-After"]) <= 60


async def test_without_a_limit_there_are_no_limit_headers(settings: Settings, api_key: str) -> None:
    free = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, rate_limit_per_minute=0))

    with api_server.in_thread(free) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": api_key}) as client:
            answer = await client.post("/v1/tasks", json=body())

    assert answer.status_code == 202
    assert not [name for name in answer.headers if name.lower().startswith("ratelimit")]


async def test_a_caller_without_a_name_is_known_by_the_digest_of_the_key(settings: Settings, store: Store) -> None:
    secret = "another-key-of-the-tests"
    nameless = msgspec.structs.replace(settings, api=msgspec.structs.replace(settings.api, keys=(secret,)))

    with api_server.in_thread(nameless) as url:
        async with httpx.AsyncClient(base_url=url, headers={"X-API-Key": secret}) as client:
            await client.post("/v1/tasks", json=body())

    assert (await claim(store)).caller == hashlib.sha256(secret.encode()).hexdigest()[:12]
