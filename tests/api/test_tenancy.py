"""Every operation of the OpenAPI document, called by the owner of a thing, by another tenant, without a key, and with a
key of another scope. A path parameter that neither `OWNED` nor `GIVEN` names fails the matrix, so that no route is left
out."""

import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, get_args
from urllib.parse import urlencode

import httpx
import msgspec
import pytest

from penstock.api.app import OPEN, REPLICATE, V1
from penstock.api.routes import health
from penstock.core.access import SCOPES, Scope, text_of
from penstock.core.batch import new_batch_id
from penstock.core.task import new_task_id
from penstock.core.upload import new_upload_id
from penstock.settings import Settings
from penstock.store import Store
from tests.support.drive import MODEL, URL, WORKER, body, claim, data_uri, image

pytestmark = pytest.mark.shared_server

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())

OPEN_TO_ALL = {"discover", "livez", "readyz", "startupz", "metrics"}
"""The operations that need no key."""

KEYS = {name: secrets.token_hex(12) for name in ("north", "south", *SCOPES)}
"""`north` and `south` are two tenants with all scopes; each scope has a key of `north` with only that one."""

GIVEN = {
    "name": MODEL,
    "model": MODEL,
    "owner": "penstock",
    "version": "1",
    "worker_id": "w0",
    "result_name": "result.png",
    "file_name": "result.png",
    "key_id": "0" * 12,
    "tenant": "east",
}
"""Parameters that name nothing of a tenant: of the path, and those of the query that are needed."""


class Operation(NamedTuple):
    """One operation of the document."""

    id: str
    method: str
    path: str
    described: dict[str, Any]

    @property
    def scope(self) -> Scope | None:
        found: Scope | None = self.described.get("x-scope")
        return found

    @property
    def parameters(self) -> list[dict[str, Any]]:
        return list(self.described.get("parameters", ()))

    @property
    def owned(self) -> str | None:
        """The path parameter that is the id of a thing of a tenant."""
        named = [p["name"] for p in self.parameters if p["in"] == "path"]
        assert set(named) <= OWNED.keys() | GIVEN.keys(), (
            f"{self.id} has a path parameter that the matrix does not know"
        )
        return next((name for name in named if name in OWNED), None)

    def url(self, subject: str = "") -> str:
        path = self.path.format(**GIVEN, **dict.fromkeys(OWNED, subject))
        given = {p["name"]: p for p in self.parameters if p["in"] == "query"}
        words = {name: GIVEN.get(name) or _first_of(p["schema"]) for name, p in given.items() if p.get("required")}
        words |= {"all": "true"} if "all" in given else {}  # or an act on all tasks would be refused
        return f"{path}?{urlencode(words)}" if words else path


def _first_of(schema: dict[str, Any]) -> str:
    return str((schema.get("items") or schema)["enum"][0])


OPERATIONS = [
    Operation(described["operationId"], method.upper(), path, described)
    for path, item in DOCUMENT["paths"].items()
    for method, described in item.items()
]
BY_KEY = [one for one in OPERATIONS if one.described["security"][:2] == [{"apiKey": []}, {"bearer": []}]]

Client = httpx.AsyncClient
AS_JSON = {"Content-Type": "application/json"}


async def _task(client: Client) -> str:
    answer = await client.post(
        "/v1/tasks", json=body(webhook={"url": "https://hooks.example.com/", "events": ["succeeded"]})
    )
    return str(answer.raise_for_status().json()["task_id"])


async def _ended(client: Client) -> str:
    task_id = await _task(client)
    (await client.post(f"/v1/tasks/{task_id}/cancel")).raise_for_status()
    return task_id


async def _batch(client: Client) -> str:
    line = body(custom_id="first")
    return str((await client.post("/v1/batches", json={"lines": [line]})).raise_for_status().json()["batch_id"])


async def _upload(client: Client) -> str:
    answer = await client.post("/v1/uploads", json={"size": 10, "content_type": "image/png"})
    return str(answer.raise_for_status().json()["upload_id"])


async def _file(client: Client) -> str:
    answer = await client.post("/replicate/v1/files", files={"content": ("photo.png", image(), "image/png")})
    return str(answer.raise_for_status().json()["id"])


OWNED: dict[str, tuple[Callable[[Client], Awaitable[str]], Callable[[], str], str]] = {
    "task_id": (_task, new_task_id, "/v1/tasks/{}"),
    "prediction_id": (_task, new_task_id, "/v1/tasks/{}"),
    "output_id": (_task, new_task_id, "/v1/tasks/{}"),
    "batch_id": (_batch, new_batch_id, "/v1/batches/{}"),
    "upload_id": (_upload, new_upload_id, "/v1/uploads/{}"),
    "file_id": (_file, new_upload_id, "/replicate/v1/files/{}"),
}
"""Path parameter -> how a client makes such a thing, another id of the kind, and where it is read."""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    keys = [f"{name}:{KEYS[name]}:{text_of(SCOPES)}" for name in ("north", "south")]
    keys += [f"north:{KEYS[scope]}:{scope}" for scope in SCOPES]
    hooks = msgspec.structs.replace(settings.webhooks, secrets=("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",))
    api = msgspec.structs.replace(settings.api, keys=tuple(keys))
    return msgspec.structs.replace(settings, api=api, webhooks=hooks)


def client_of(server: str, name: str | None) -> Client:
    headers = {"X-Request-ID": "one-for-all"} | ({} if name is None else {"X-API-Key": KEYS[name]})
    return Client(base_url=server, headers=headers, timeout=30, trust_env=False)


@pytest.fixture
async def north(server: str) -> AsyncIterator[Client]:
    async with client_of(server, "north") as opened:
        yield opened


@pytest.fixture
async def south(server: str) -> AsyncIterator[Client]:
    async with client_of(server, "south") as opened:
        yield opened


async def call(client: Client, operation: Operation, subject: str = "") -> httpx.Response:
    """Sends a request; of a stream that does not end only the head is read."""
    headers = AS_JSON if "requestBody" in operation.described else {}
    async with client.stream(operation.method, operation.url(subject), headers=headers) as answer:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            await answer.aread()
    return answer


def seen(answer: httpx.Response, subject: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that a client sees, with one word in the place of the id that it has named."""
    headers = [(name, value) for name, value in answer.headers.multi_items() if name not in ("date", "traceparent")]
    return answer.status_code, headers, answer.content.replace(subject.encode(), b"ID")


# --- the matrix -----------------------------------------------------------------------------------------------


def test_every_route_of_the_server_is_in_the_matrix() -> None:
    served = {handler.operation_id for handler in (*OPEN, health.metrics, *V1, *REPLICATE)}

    assert {operation.id for operation in OPERATIONS} == served
    assert {o.id for o in OPERATIONS if not o.described["security"]} == OPEN_TO_ALL
    assert [o.id for o in BY_KEY if o.scope not in get_args(Scope)] == []


async def test_te1_no_operation_answers_without_a_key(server: str) -> None:
    async with client_of(server, None) as nobody:
        answers = {o.id: await call(nobody, o, new_task_id()) for o in BY_KEY}

    assert {name: a.status_code for name, a in answers.items()} == dict.fromkeys(answers, 401)
    assert len({seen(answer, "-")[2] for answer in answers.values()}) == 1


async def test_au1_no_operation_answers_a_key_of_any_other_scope(server: str) -> None:
    refused: dict[str, set[str]] = {}
    for scope in SCOPES:
        async with client_of(server, scope) as client:
            for operation in (o for o in BY_KEY if o.scope != scope):
                answer = await call(client, operation, new_task_id())
                assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), operation.id
                assert f"`{operation.scope}`" in answer.json()["detail"]
                assert (
                    answer.headers["WWW-Authenticate"]
                    == f'Bearer error="insufficient_scope", scope="{operation.scope}"'
                )
                refused.setdefault(operation.id, set()).add(scope)

    assert {name: len(scopes) for name, scopes in refused.items()} == {o.id: len(SCOPES) - 1 for o in BY_KEY}


async def test_te1_what_another_tenant_has_answers_as_what_nobody_has(north: Client, south: Client) -> None:
    for operation in OPERATIONS:
        if (kind := operation.owned) is None:
            continue
        make, another, read_at = OWNED[kind]
        subject, random = await make(north), another()
        before = await north.get(read_at.format(subject))

        foreign, unknown = await call(south, operation, subject), await call(south, operation, random)
        own = await call(north, operation, subject)

        assert seen(foreign, subject) == seen(unknown, random), operation.id
        assert foreign.status_code == 404, operation.id
        if operation in BY_KEY:  # the others need the token that is in the URL
            assert own.status_code < 500, operation.id
            assert own.status_code not in (401, 403), operation.id
            assert own.is_stream_consumed is False or own.content != foreign.content.replace(random.encode(), b"")
            assert before.status_code == 200


async def test_te1_no_act_of_another_tenant_touches_anything(north: Client, south: Client) -> None:
    made = [(kind, await make(north)) for kind, (make, _, _) in OWNED.items()]
    made += [(kind, await _ended(north)) for kind in ("task_id", "prediction_id")]
    at = [OWNED[kind][2].format(subject) for kind, subject in made]
    before = [(await north.get(url)).json() for url in at]

    for operation in OPERATIONS:
        if operation.method != "GET" and operation.scope == "submit":
            for subject in [subject for kind, subject in made if kind == operation.owned] or [""]:
                await call(south, operation, subject)
    assert (await south.post(f"/v1/queues/{MODEL}/purge")).json()["canceled"] == 0

    assert _settled([(await north.get(url)).json() for url in at]) == _settled(before)


def _settled(views: list[dict[str, Any]]) -> list[dict[str, Any]]:
    moving = ("queue_position", "eta_s", "counts", "progress")  # a batch is fed meanwhile
    return [{name: value for name, value in view.items() if name not in moving} for view in views]


async def test_te1_no_list_shows_what_another_tenant_has(north: Client, south: Client, store: Store) -> None:
    made = [await make(north) for make, _, _ in OWNED.values()]
    await store.leases.renew(WORKER, [])
    running = await claim(store)
    assert running.id in (await north.get("/v1/workers")).text
    for operation in OPERATIONS:
        if operation.method == "GET" and operation.owned is None and operation in BY_KEY:
            if operation.id == "listTenants":  # an administrator sees who there is
                continue
            answer = await call(south, operation)
            assert not [one for one in made if one in answer.text], operation.id
            assert "north" not in answer.text, operation.id
    counts = (await south.get("/v1/stats")).json()["tasks"]

    assert set(counts.values()) == {0}


# --- operators ------------------------------------------------------------------------------------------------

OF_ANY_TENANT = [one for one in BY_KEY if one.scope != "admin" and any(p["name"] == "tenant" for p in one.parameters)]
"""Where an operator may name another tenant; for an administrator it says whose keys are meant."""


async def test_an_operator_acts_in_another_tenant_when_it_names_it(north: Client, south: Client) -> None:
    for operation in OF_ANY_TENANT:
        kind = operation.owned
        subject = await OWNED[kind][0](north) if kind else ""
        url = operation.url(subject)

        there = await _head(south, operation, f"{url}{'&' if '?' in url else '?'}tenant=north")
        unknown = await _head(south, operation, f"{url}{'&' if '?' in url else '?'}tenant=nobody")

        assert there.status_code not in (401, 403, 422), operation.id
        assert kind is None or there.status_code != 404 or there.json()["code"] == "webhook_not_found", operation.id
        assert kind is None or unknown.status_code == 404, operation.id


async def test_a_bulk_act_and_a_purge_hit_the_tenant_that_is_named(north: Client, south: Client) -> None:
    theirs, own = await _task(north), await _task(south)

    bulk = await south.post("/v1/tasks/cancel?status=PENDING&all=true&tenant=north")
    looked_at = (await south.get("/v1/audit")).json()["data"][0]
    again = await _task(north)
    purge = await south.post(f"/v1/queues/{MODEL}/purge?tenant=north")

    assert bulk.json()["task_ids"] == [theirs]
    assert (looked_at["act"], looked_at["tenant"]) == ("tasks.cancel", "south")
    assert looked_at["subject"] == "status=PENDING"
    assert looked_at["details"] == {"of_tenant": "north", "matched": 1}
    assert purge.json()["canceled"] == 1
    assert (await north.get(f"/v1/tasks/{again}")).json()["status"] == "CANCELED"
    assert (await south.get(f"/v1/tasks/{own}")).json()["status"] == "PENDING"


async def test_an_operator_counts_the_tasks_of_all_tenants_and_sees_whose_run(
    server: str, north: Client, south: Client, store: Store
) -> None:
    await store.leases.renew(WORKER, [])
    made = {await _task(north): "north", await _task(south): "south"}
    running = [(await claim(store)).id for _ in made]

    async with client_of(server, "read") as reader:
        refused = [await reader.get(f"/v1/{path}?tenant=*") for path in ("workers", "stats")]
    (worker,) = (await south.get("/v1/workers?tenant=*")).json()["data"]
    (own,) = (await south.get("/v1/workers")).json()["data"]

    assert {one["task_id"]: one["tenant"] for one in worker["tasks"]} == made
    assert sorted(running) == sorted(made)
    assert [one["tenant"] for one in own["tasks"]] == ["south"]
    assert (await south.get("/v1/stats?tenant=*")).json()["tasks"]["RUNNING"] == 2
    assert (await south.get("/v1/stats")).json()["tasks"]["RUNNING"] == 1
    assert {answer.status_code for answer in refused} == {403}
    assert (await south.get("/v1/tasks?tenant=*")).status_code == 422, "a list of tasks is that of one tenant"


async def _head(client: Client, operation: Operation, url: str) -> httpx.Response:
    async with client.stream(operation.method, url) as answer:
        if not answer.headers.get("content-type", "").startswith("text/event-stream"):
            await answer.aread()
    return answer


async def test_au1_without_operate_a_key_acts_in_no_other_tenant(server: str, south: Client) -> None:
    async with client_of(server, "read") as client:
        for operation in (one for one in OF_ANY_TENANT if one.scope == "read"):
            url = operation.url(new_task_id())
            answer = await client.get(f"{url}{'&' if '?' in url else '?'}tenant=south")
            assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), operation.id
        own = await client.get("/v1/tasks?tenant=north")

    assert own.status_code == 200


@pytest.mark.parametrize(
    ("path", "param"), [("/v1/tasks?tenant=a/b", "tenant"), ("/v1/uploads/upl_0?tenant=south", "tenant")]
)
async def test_a_tenant_is_named_where_it_may_be_and_by_a_name(north: Client, path: str, param: str) -> None:
    answer = await north.get(path)

    assert (answer.status_code, answer.json()["param"]) == (422, param)


# --- what names things in bodies and headers ------------------------------------------------------------------


async def test_te1_an_upload_of_another_tenant_is_no_input(north: Client, south: Client) -> None:
    theirs, random = await _upload(north), new_upload_id()

    tasks = [
        await south.post("/v1/tasks", json={"model": MODEL, "input": {"upload_id": one}}) for one in (theirs, random)
    ]
    batches = [await south.post("/v1/batches", json={"upload_id": one}) for one in (theirs, random)]

    for first, second in (tasks, batches):
        assert first.status_code == 404
        assert seen(first, theirs) == seen(second, random)


async def test_te1_a_request_id_and_an_equal_task_of_another_tenant_are_not_met(north: Client, south: Client) -> None:
    said = {"model": MODEL, "input": {"image": data_uri(image())}, "client_request_id": "order-1"}

    first, second = [await client.post("/v1/tasks", json=said) for client in (north, south)]

    assert [first.status_code, second.status_code] == [202, 202]
    assert first.json()["task_id"] != second.json()["task_id"]
    assert second.json().get("reused") is None


@pytest.mark.parametrize(
    "member", ["tenant", "tenant_id", "caller", "scopes", "status", "result_url", "attempts", "epoch"]
)
async def test_te2_a_body_assigns_nothing_that_is_ours(north: Client, member: str) -> None:
    answers = [
        await north.post("/v1/tasks", json=body(**{member: "south"})),
        await north.post("/v1/batches", json={"lines": [body()], member: "south"}),
        await north.post("/v1/uploads", json={"size": 1, "content_type": "image/png", member: "south"}),
    ]

    assert [(a.status_code, a.json()["code"]) for a in answers] == [(422, "invalid_request")] * 3


async def test_a_prediction_shows_the_url_of_its_source_without_the_signature(north: Client) -> None:
    signed = f"{URL}?X-Amz-Expires=900&X-Amz-Signature=0123abcd"
    sent = {"version": MODEL, "input": {"image": signed}}

    made = (await north.post("/replicate/v1/predictions", json=sent)).raise_for_status().json()
    listed = (await north.get("/replicate/v1/predictions")).json()["results"]

    assert [one["input"]["image"] for one in (made, *listed)] == [URL, URL]


# --- cursors --------------------------------------------------------------------------------------------------

LISTS = [one for one in BY_KEY if any(p["name"] == "cursor" for p in one.parameters) and one.method == "GET"]


async def _cursor(client: Client) -> str:
    for _ in range(2):
        await _task(client)
    return str((await client.get("/v1/tasks?limit=1")).raise_for_status().json()["next_cursor"])


async def test_te4_a_cursor_of_another_tenant_is_none(north: Client, south: Client) -> None:
    cursor = await _cursor(north)

    for operation in (one for one in LISTS if one.scope == "read"):
        assert (await north.get(operation.url(), params={"cursor": cursor})).status_code == 200, operation.id
        foreign = await south.get(operation.url(), params={"cursor": cursor})
        assert (foreign.status_code, foreign.json()["param"]) == (422, "cursor"), operation.id


async def test_te4_a_cursor_that_was_changed_or_made_up_is_none(north: Client) -> None:
    cursor = await _cursor(north)
    changed = [
        cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :] for place in range(len(cursor))
    ]
    made_up = ["A" * 10_240, "A" * len(cursor), "%00", "é", cursor + "A"]

    for one in (*changed, *made_up):
        answer = await north.get("/v1/tasks", params={"cursor": one})
        assert (answer.status_code, answer.json()["param"]) == (422, "cursor"), one


# --- other ways of writing a path -----------------------------------------------------------------------------


def ways_of(path: str) -> Iterator[str]:
    """Other spellings of a path, which a proxy or a router might take for it."""
    yield from (f"{path}/", f"/{path}", path.replace("/v1/", "/v1//"), path.replace("/v1/", "/v1/./"))
    yield from (path.replace("/v1/", "/v1/%2e%2e/v1/"), path.replace("/v1/", "/v1/x/../"), path.upper(), f"{path};x=1")
    yield from (f"{path}%2f", f"{path}%00")


async def test_te3_no_spelling_of_a_path_gets_around_its_scope(server: str) -> None:
    guarded = [o for o in BY_KEY if o.scope in ("operate", "admin")]
    async with client_of(server, "read") as client:
        for operation in guarded:
            for way in ways_of(operation.url("x")):
                request = client.build_request(operation.method, "/", content=b"{}")
                request.url = request.url.copy_with(raw_path=way.encode())
                answer = await client.send(request)
                assert answer.status_code in (400, 403, 404, 405, 415), (operation.id, way)


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
async def test_te3_a_header_does_not_change_the_method(server: str, north: Client, header: str) -> None:
    task_id = await _task(north)
    await north.post(f"/v1/tasks/{task_id}/cancel")
    async with client_of(server, "read") as client:
        answer = await client.get(f"/v1/tasks/{task_id}", headers={header: "DELETE"})

    assert answer.status_code == 200
    assert (await north.get(f"/v1/tasks/{task_id}")).status_code == 200


@pytest.mark.parametrize("header", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Prefix"])
async def test_te3_a_header_does_not_change_the_path(server: str, header: str) -> None:
    async with client_of(server, "read") as client:
        answer = await client.post("/livez", headers={header: f"/v1/queues/{MODEL}/pause"})

    assert answer.status_code == 405
