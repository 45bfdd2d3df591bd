"""The query of a request: a name that is not known, or is there too often, is refused on every route."""

from collections.abc import Iterator

import httpx
import pytest
from litestar.routes import HTTPRoute
from msgspec.structs import replace

from penstock.api.app import create_app
from penstock.core.access import TENANT
from penstock.settings import ConsoleSettings, Settings
from penstock.store import Store
from tests.support.drive import MODEL, body, fail

pytestmark = pytest.mark.shared_server

PLACES = {
    "task_id": "tsk_0",
    "batch_id": "bat_0",
    "upload_id": "upl_0",
    "worker_id": "w0",
    "model": MODEL,
    "name": MODEL,
}


def routes(settings: Settings) -> Iterator[tuple[str, str]]:
    """Method and path of every route that the application has, whoever has added it, but for the console's pages, which
    answer errors as pages."""
    for route in create_app(replace(settings, console=ConsoleSettings(enabled=False))).routes:
        if isinstance(route, HTTPRoute):
            names = {parameter: PLACES.get(parameter, "some") for parameter in route.path_parameters}
            yield from ((method, route.path_format.format(**names)) for method in sorted(route.methods))


async def test_every_route_refuses_a_query_name_that_it_does_not_know(
    client: httpx.AsyncClient, settings: Settings
) -> None:
    known = list(routes(settings))
    assert len(known) > 90

    for method, path in known:
        for sent in ("unkonwn=1", "unkonwn", "unkonwn=%FF&unkonwn=2"):
            answer = await client.request(method, f"{path}?{sent}", json={} if method in ("POST", "PUT") else None)
            assert answer.status_code == 422, f"{method} {path}?{sent}: {answer.text}"
            assert answer.headers["content-type"] == "application/problem+json"
            if method != "HEAD":
                assert (answer.json()["code"], answer.json()["param"]) == ("invalid_request", "unkonwn")


@pytest.mark.parametrize(
    ("method", "path", "meant"),
    [
        ("POST", "/v1/tasks/delete?status=FAILED&creatd_before=2020-01-01T00:00:00Z", "created_before"),
        ("POST", "/v1/tasks/cancel?status=PENDING&modle=superres-x4", "model"),
        ("POST", "/v1/tasks/retry?status=FAILED&metadata_album=1", "metadata.<key>"),
        ("POST", f"/v1/queues/{MODEL}/pause?priorty=low", "priority"),
        ("POST", f"/v1/queues/{MODEL}/purge?dryrun=true", "dry_run"),
        ("GET", "/v1/tasks?cusror=x", "cursor"),
        ("GET", "/v1/tasks/tsk_0?wiat=3", "wait"),
        ("GET", "/v1/batches/bat_0/results?strat=3", "start"),
        ("GET", "/replicate/v1/predictions?curser=x", "cursor"),
    ],
)
async def test_a_refusal_names_what_was_probably_meant(
    client: httpx.AsyncClient, method: str, path: str, meant: str
) -> None:
    answer = await client.request(method, path)

    assert answer.status_code == 422
    assert f"did you mean `{meant}`?" in answer.json()["detail"]


async def test_a_refusal_lists_every_name_that_is_known(client: httpx.AsyncClient) -> None:
    some = await client.post("/v1/tasks/delete?sort=asc")
    none = await client.get("/livez?sort=asc")

    names = (
        "all, batch_id, created_after, created_before, cursor, dry_run, error_code, id_prefix, key, limit, "
        "metadata.<key>, model, priority, status, tenant"
    )
    assert f"(known here: {names})" in some.json()["detail"]
    assert "(this endpoint takes none)" in none.json()["detail"]


@pytest.mark.parametrize("sent", ["dryrun=true", "dry_run=true", "prefer=wait"])
async def test_a_submit_with_a_query_queues_nothing(client: httpx.AsyncClient, store: Store, sent: str) -> None:
    answer = await client.post(f"/v1/tasks?{sent}", json=body())

    assert (answer.status_code, answer.json()["param"]) == (422, sent.partition("=")[0])
    assert not (await store.listing.page(TENANT)).tasks


@pytest.mark.parametrize(
    ("path", "param"),
    [
        ("/v1/tasks/delete?status=FAILED&model=a&model=b", "model"),
        ("/v1/tasks/delete?status=FAILED&metadata.album=1&metadata.album=2", "metadata.album"),
        ("/v1/tasks/cancel?status=PENDING&priority=low&priority=high", "priority"),
        ("/v1/tasks/retry?status=FAILED&all=true&limit=1&limit=2", "limit"),
        (f"/v1/queues/{MODEL}/pause?priority=low&priority=low", "priority"),
    ],
)
async def test_a_parameter_of_one_value_can_be_given_once_only(
    client: httpx.AsyncClient, path: str, param: str
) -> None:
    answer = await client.post(path)

    assert (answer.status_code, answer.json()["param"]) == (422, param)
    assert "once" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/v1/tasks?priority=null", "/v1/batches?cursor=NULL", "/v1/tasks/tsk_0?wait=null"])
async def test_the_word_null_does_not_stand_for_a_parameter_that_is_left_out(
    client: httpx.AsyncClient, path: str
) -> None:
    answer = await client.get(path)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert (await client.get("/v1/tasks?metadata.album=null")).status_code == 200, "a value of metadata can be that"


@pytest.mark.parametrize("sent", ["model=", "batch_id=", "metadata.album="])
async def test_an_empty_filter_matches_nothing_rather_than_everything(
    client: httpx.AsyncClient, store: Store, sent: str
) -> None:
    await client.post("/v1/tasks", json=body())
    await fail(store)

    answer = await client.post(f"/v1/tasks/delete?status=FAILED&{sent}")

    assert (answer.status_code, answer.json()["matched"]) == (200, 0)


async def test_a_stranger_hears_of_the_missing_key_first(stranger: httpx.AsyncClient) -> None:
    assert (await stranger.get("/v1/tasks?unkonwn=1")).status_code == 401
