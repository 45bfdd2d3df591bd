"""Clients of an operator in another tenant: the two Python clients, and the commands with `--tenant`."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from penstock.cli.main import cli
from penstock.client import AsyncClient, Client, PenstockApiError
from penstock.client.transport import OF_A_TENANT
from penstock.settings import Settings
from tests.support.drive import MODEL, URL, body

pytestmark = pytest.mark.shared_server

DOCUMENT = json.loads((Path(__file__).parents[2] / "docs" / "openapi.json").read_text())
NORTH, OPERATOR, USER = (f"0123456789abcdef-{name}" for name in ("north", "operator", "user"))

Run = Callable[..., Result]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    keys = (f"north:{NORTH}", f"ops:{OPERATOR}:read+submit+operate", f"south:{USER}")
    return replace(settings, api=replace(settings.api, keys=keys))


@pytest.fixture
def theirs(server: str) -> Iterator[str]:
    """A task of the tenant `north`."""
    with httpx.Client(base_url=server, headers={"X-API-Key": NORTH}) as client:
        yield client.post("/v1/tasks", json=body()).raise_for_status().json()["task_id"]


@pytest.fixture
def run(server: str) -> Run:
    def invoke(*arguments: str, key: str = OPERATOR, status: int = 0) -> Result:
        environ = {"PENSTOCK_URL": server, "PENSTOCK_API_KEY": key, "COLUMNS": "200"}
        done = CliRunner().invoke(cli, arguments, env=environ)
        assert done.exit_code == status, done.output
        return done

    return invoke


async def test_a_client_with_a_tenant_reads_and_acts_there(server: str, theirs: str) -> None:
    async with AsyncClient(server, OPERATOR) as own, AsyncClient(server, OPERATOR, tenant="north") as there:
        mine = (await own.submit(URL, MODEL)).task_id
        assert [task.task_id async for task in there.list()] == [theirs]
        assert [task.task_id async for task in own.list()] == [mine]
        with pytest.raises(PenstockApiError, match="task_not_found"):
            await own.cancel(theirs)
        assert (await there.get(theirs)).status == "PENDING"
        assert (await there.stats()).tasks["PENDING"] == 1
        assert (await there.cancel_matching(status=["PENDING"], every=True)).task_ids == (theirs,)
        assert (await there.retry(theirs)).status == "PENDING"
        assert await there.purge_queue(MODEL) == 1
        assert [task async for task in there.watch(theirs)][-1].status == "CANCELED"
        with pytest.raises(PenstockApiError, match="result_not_ready"):
            await there.result(theirs)
        assert (await own.get(mine)).status == "PENDING"
        assert await there.workers() == await own.workers()
        assert [model.name for model in await there.models()] == [model.name for model in await own.models()]


async def test_nothing_is_submitted_for_another_tenant(server: str, tmp_path: Path) -> None:
    async with AsyncClient(server, OPERATOR, tenant="north") as there:
        for act in (there.submit(URL, MODEL), there.submit_batch({"a": URL}, MODEL), there.upload(b"bytes")):
            with pytest.raises(PenstockApiError, match="tenant") as refused:
                await act
            assert (refused.value.code, refused.value.param) == ("invalid_request", "tenant")


def test_the_blocking_client_does_as_the_other(server: str, theirs: str) -> None:
    with Client(server, OPERATOR, tenant="north") as there:
        assert [task.task_id for task in there.list()] == [theirs]
    with Client(server, USER, tenant="north") as stranger, pytest.raises(PenstockApiError, match="forbidden"):
        stranger.get(theirs)


def test_the_commands_act_in_the_tenant_that_is_named(run: Run, theirs: str) -> None:
    there = ("--tenant", "north")
    assert theirs in run("ls", *there).stdout
    assert theirs not in run("ls").stdout
    assert json.loads(run("show", theirs, *there, "--json").stdout)["task_id"] == theirs
    assert "task_not_found" in run("show", theirs, status=1).stderr
    assert "forbidden" in run("ls", *there, key=USER, status=1).stderr
    run("cancel", theirs, *there)
    assert json.loads(run("tasks", "retry", *there, "--status", "CANCELED", "--all", "--yes", "--json").stdout)[
        "task_ids"
    ] == [theirs]
    assert run("queues", "purge", MODEL, "--yes", *there).stdout == "1 canceled\n"
    assert run("logs", theirs, *there).stdout == ""
    assert "CANCELED" in run("watch", theirs, *there, status=1).stdout
    run("workers", *there)


@pytest.mark.parametrize(("path", "item"), DOCUMENT["paths"].items())
def test_a_tenant_is_named_wherever_one_may_be(path: str, item: dict[str, dict[str, object]]) -> None:
    """And where something would be made in the tenant of the key."""
    for method, operation in item.items():
        takes = [p for p in operation.get("parameters", ()) if p["name"] == "tenant" and p["in"] == "query"]  # type: ignore[attr-defined,index]
        makes = (method, path) in {("post", "/v1/tasks"), ("post", "/v1/batches"), ("post", "/v1/tasks/quote")}
        is_of_admin = operation.get("x-scope") == "admin"
        if path.startswith("/v1/uploads"):
            continue
        assert bool(OF_A_TENANT.match(path)) == ((bool(takes) or makes) and not is_of_admin), path
