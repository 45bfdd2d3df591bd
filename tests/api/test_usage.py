"""What a tenant holds and has used, as its keys and operators read it."""

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import timedelta

import httpx
import pytest
from click.testing import CliRunner
from click.testing import Result as CliResult
from msgspec.structs import replace

from penstock.cli.main import cli
from penstock.cli.usage_tables import readable_bytes
from penstock.client import Client
from penstock.core.quotas import Quotas
from penstock.core.task import Artifact, Outcome, Result
from penstock.settings import QuotaSettings, Settings
from penstock.store import Store
from tests.support.drive import body, claim, data_uri, photo

pytestmark = pytest.mark.shared_server

FILE = Artifact(name="result.png", s3_key="k", size=1000, sha256="", content_type="image/png")
SECRETS = {"north": "north-secret-0123456789", "south": "south-secret-0123456789"}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    keys = (f"north:{SECRETS['north']}", f"south:{SECRETS['south']}:read+submit+operate")
    quotas = QuotaSettings(tenants={"north": {"tasks_waiting": 5, "device_seconds_per_day": 10}}, storage_bytes=10**9)
    return replace(settings, api=replace(settings.api, keys=keys), quotas=quotas)


def client_of(server: str, name: str) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=server, headers={"X-API-Key": SECRETS[name]}, timeout=30, trust_env=False)


async def test_a_task_is_in_the_usage_of_its_tenant_and_of_no_other(server: str, store: Store) -> None:
    data = photo()
    inline = body(image_url=data_uri(data))
    async with client_of(server, "north") as north, client_of(server, "south") as south:
        (await north.post("/v1/tasks", json=inline)).raise_for_status()
        (waiting,) = (await north.get("/v1/usage")).json()["data"]
        result = Result(artifacts=(FILE,))
        assert await store.leases.complete(await claim(store), Outcome(result=result))
        (ended,) = (await north.get("/v1/usage")).json()["data"]
        (other,) = (await south.get("/v1/usage")).json()["data"]

    assert (waiting["tenant"], waiting["now"]["tasks_waiting"]) == ("north", 1)
    assert waiting["now"]["storage_bytes"] == 0
    assert waiting["now"]["redis_bytes"] > 1000 + len(data)
    assert waiting["left"]["storage_bytes"] == 10**9
    assert (waiting["left"]["tasks_waiting"], waiting["left"]["tasks_running"]) == (4, None)
    assert (ended["now"]["tasks_waiting"], ended["total"]["submitted"], ended["total"]["success"]) == (0, 1, 1)
    assert ended["now"]["storage_bytes"] == 1000
    assert ended["total"]["bytes_out"] > 1000
    assert ended["total"]["bytes_in"] > len(data)
    assert other["days"] == []
    assert set(other["total"].values()) == {0}
    assert other["quotas"] == {"tasks_waiting": 0} | {
        name: 10**9 if name == "storage_bytes" else 0 for name in Quotas.__struct_fields__
    }


async def test_device_time_is_in_the_usage_and_off_the_quota(server: str, store: Store) -> None:
    async with client_of(server, "north") as north:
        (await north.post("/v1/tasks", json=body())).raise_for_status()
        lease = await claim(store)
        await store.leases.release(lease, device_ms=1500.5)
        (found,) = (await north.get("/v1/usage")).json()["data"]

    assert found["total"]["device_seconds"] == 1.5005
    left_s = 10 - 1.5005 - found["now"]["device_seconds_reserved"]
    assert found["left"]["device_seconds_per_day"] == pytest.approx(left_s, abs=0.001)


async def test_an_operator_reads_the_usage_of_another_tenant_and_of_all(server: str) -> None:
    async with client_of(server, "north") as north, client_of(server, "south") as south:
        (await north.post("/v1/tasks", json=body())).raise_for_status()
        (one,) = (await south.get("/v1/usage?tenant=north")).json()["data"]
        everybody = (await south.get("/v1/usage?tenant=*")).json()["data"]
        refused = [await north.get(f"/v1/usage?tenant={name}") for name in ("south", "*")]
        nowhere_else = await south.get("/v1/tasks?tenant=*")

    assert one["total"]["submitted"] == 1
    assert [tenant["tenant"] for tenant in everybody] == ["default", "north"]
    assert everybody[1]["days"] == one["days"]
    assert one["now"]["batch_lines"] == 0
    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(403, "forbidden")] * 2
    assert (nowhere_else.status_code, nowhere_else.json()["param"]) == (422, "tenant")


async def test_a_range_of_days_is_from_the_first_of_the_month_to_today_unless_it_is_said(
    server: str, store: Store
) -> None:
    today = await store.accounts.today()
    async with client_of(server, "north") as north:
        (await north.post("/v1/tasks", json=body())).raise_for_status()
        usual = (await north.get("/v1/usage")).json()
        before = (
            await north.get(f"/v1/usage?from={today - timedelta(days=399)}&to={today - timedelta(days=1)}")
        ).json()

    assert (usual["from"], usual["to"]) == (str(today.replace(day=1)), str(today))
    assert [day["day"] for day in usual["data"][0]["days"]] == [str(today)]
    assert before["data"][0]["days"] == []


async def test_days_before_all_others_have_no_usage(server: str) -> None:
    async with client_of(server, "north") as north, client_of(server, "south") as south:
        answers = [await one.get("/v1/usage?from=1969-12-01&to=1970-01-02") for one in (north, south)]
        answers.append(await south.get("/v1/usage?from=0001-01-01&to=0001-01-02&tenant=*"))

    assert [answer.status_code for answer in answers] == [200] * 3
    assert [tenant["days"] for answer in answers for tenant in answer.json()["data"]] == [[]] * 3


@pytest.mark.parametrize(
    "query", ["from=2026-02-30", "from=1700000000", "from=2026-03-02&to=2026-03-01", "from=2020-01-01&to=2026-01-01",
              "to=yesterday", "from=2026-01-01T00:00:00Z", "from="],
)  # fmt: skip
async def test_a_range_that_is_none_is_refused(server: str, query: str) -> None:
    async with client_of(server, "north") as north:
        answer = await north.get(f"/v1/usage?{query}")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert answer.json()["param"] in ("from", "to")


# --- the command ----------------------------------------------------------------------------------------------


@pytest.fixture
def run(server: str) -> Callable[..., CliResult]:
    def invoke(*arguments: str, status: int = 0, key: str = "south") -> CliResult:
        environ = {"PENSTOCK_URL": server, "PENSTOCK_API_KEY": SECRETS[key], "COLUMNS": "80"}
        done = CliRunner().invoke(cli, ["usage", *arguments], env=environ)
        assert done.exit_code == status, done.output
        return done

    return invoke


@pytest.fixture
def used(settings: Settings, server: str) -> str:
    """The day on which a task of north was submitted."""
    with Client(server, SECRETS["north"]) as north:
        north.submit("https://example.com/photo.jpg", "superres-x4")
        return north.usage().data[0].days[0].day


def test_the_command_shows_what_is_held_and_used_in_80_columns(run: Callable[..., CliResult], used: str) -> None:
    shown = run("--all").stdout

    assert "north: 1 waiting (of 5), 0 running, " in " ".join(shown.split())
    assert re.search(rf"^{used} +1 +0 +0 +0 +0\.0 s ", shown, re.MULTILINE)
    assert max(map(len, shown.splitlines())) <= 80


def test_the_command_prints_json_and_csv(run: Callable[..., CliResult], used: str) -> None:
    one = json.loads(run("--tenant", "north", "--json").stdout)
    rows = [*csv.DictReader(io.StringIO(run("--tenant", "north", "--from", used, "--to", used, "--csv").stdout))]

    assert (one["tenant"], one["total"]["submitted"]) == ("north", 1)
    assert [(row["tenant"], row["day"], row["submitted"]) for row in rows] == [("north", used, "1")]
    assert int(rows[0]["bytes_in"]) == one["total"]["bytes_in"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("--all", "--tenant", "north"), 2, "one of them"),
        (("--csv", "--json"), 2, "one of --csv and --json"),
        (("--from", "yesterday"), 2, "--from"),
        (("--from", "2026-02-02", "--to", "2026-02-01"), 1, "invalid_request"),
    ],
)
def test_a_wrong_call_of_the_command_says_what_is_wrong(
    run: Callable[..., CliResult], arguments: tuple[str, ...], status: int, said: str
) -> None:
    assert said in run(*arguments, status=status).stderr


def test_a_key_without_the_scope_reads_no_usage_of_others(run: Callable[..., CliResult]) -> None:
    assert "forbidden" in run("--all", key="north", status=1).stderr


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (4_614_770_991, "4.61 GB"), (999_600, "1 MB")]
)
def test_bytes_are_shown_with_three_digits(count: int, text: str) -> None:
    assert readable_bytes(count) == text
