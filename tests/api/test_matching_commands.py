"""The client and the command line on all tasks that match a filter."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from penstock import Client, PenstockApiError
from penstock.client import Filter
from penstock.settings import clean_environment
from tests.support.drive import MODEL, URL

pytestmark = [pytest.mark.usefixtures("patient"), pytest.mark.shared_server]  # a repeated act finds less


@pytest.fixture
def penstock(server: str, api_key: str) -> Iterator[Client]:
    with Client(server, api_key, patience_s=20) as client:
        yield client


def submitted(client: Client, count: int, **options: Any) -> list[str]:
    """Newest first, as lists are."""
    return [client.submit(URL, MODEL, reuse=False, **options).task_id for _ in range(count)][::-1]


def run(client: Client, api_key: str, *arguments: str, said: str | None = None, status: int = 0) -> str:
    """What a command prints."""
    environ = clean_environment() | {"PENSTOCK_URL": client.url, "PENSTOCK_API_KEY": api_key, "COLUMNS": "200"}
    command = [sys.executable, "-m", "penstock", *arguments]
    done = subprocess.run(command, env=environ, input=said, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_the_acts_of_the_client_hit_what_its_list_shows(penstock: Client) -> None:
    mine = submitted(penstock, 3, metadata={"album": "42"}, priority="low")
    others = submitted(penstock, 2, priority="low") + submitted(penstock, 2, metadata={"album": "42"})
    which: Filter = {"status": ["PENDING"], "metadata": {"album": "42"}, "priority": "low", "model": MODEL}

    listed = [task.task_id for task in penstock.list(**which)]
    dry = penstock.cancel_matching(dry_run=True, **which)
    canceled = penstock.cancel_matching(**which)
    retried = penstock.retry_matching(**which | {"status": ["CANCELED", "FAILED"]})
    again = penstock.cancel_matching(**which)
    deleted = penstock.delete_matching(status=["CANCELED"], every=True)

    assert listed == mine == list(dry.task_ids)
    assert (dry.matched, dry.changed) == (3, 0)
    assert [(hit.matched, hit.changed) for hit in (canceled, retried, again, deleted)] == [(3, 3)] * 4
    assert {task.task_id for task in penstock.list()} == {*others}


def test_the_client_filters_by_moments(penstock: Client) -> None:
    (task_id,) = submitted(penstock, 1)
    now = datetime.now(UTC)

    before = list(penstock.list(created_before=now - timedelta(hours=1)))
    after = list(penstock.list(created_after=now - timedelta(hours=1), created_before=now + timedelta(hours=1)))
    local = list(penstock.list(created_after=datetime.now() - timedelta(hours=1)))  # noqa: DTZ005  as a user may write it

    assert ([], [task_id], [task_id]) == (before, [task.task_id for task in after], [task.task_id for task in local])


def test_the_client_hits_every_task_of_a_status_only_if_it_says_so(penstock: Client) -> None:
    submitted(penstock, 1)

    with pytest.raises(PenstockApiError, match="all=true"):
        penstock.cancel_matching(status=["PENDING"])

    assert penstock.cancel_matching(status=["PENDING"], every=True).changed == 1


NO_FILTERS: dict[str, dict[str, Any]] = {
    "prioritty": {"prioritty": "low"},
    "metadata.album": {"metadata.album": "42"},
    "every one": {"all": True},
    "None": {"metadata": {"album": None}},
}


@pytest.mark.parametrize("said", NO_FILTERS.values(), ids=NO_FILTERS)
def test_the_client_refuses_what_is_no_filter(penstock: Client, said: dict[str, Any]) -> None:
    waiting = submitted(penstock, 1)

    for act in (penstock.cancel_matching, penstock.retry_matching, penstock.delete_matching):
        with pytest.raises(TypeError, match=re.escape(next(iter(said)))):
            act(status=["PENDING"], model=MODEL, **said)
    with pytest.raises(TypeError, match=re.escape(next(iter(said)))):
        list(penstock.list(**said))

    assert [task.task_id for task in penstock.list(status="PENDING")] == waiting


def test_a_moment_that_is_text_is_a_filter_of_the_client_too(penstock: Client) -> None:
    submitted(penstock, 1)
    which: dict[str, Any] = {"status": "PENDING", "model": MODEL}

    missed = penstock.cancel_matching(**which, created_before="2026-01-01T00:00:00Z")
    with pytest.raises(PenstockApiError, match="created_before"):
        penstock.cancel_matching(**which, created_before="yesterday")

    assert missed.matched == 0


def test_a_command_looks_first_asks_and_then_acts(penstock: Client, api_key: str) -> None:
    mine = submitted(penstock, 2, metadata={"album": "42"})
    submitted(penstock, 1)
    which = ("--status", "pending", "--metadata", "album=42", "--created-after", "2026-01-01")

    listed = [json.loads(line)["task_id"] for line in run(penstock, api_key, "ls", *which, "--json").splitlines()]
    dry = run(penstock, api_key, "tasks", "cancel", *which, "--dry-run")
    refused = run(penstock, api_key, "tasks", "cancel", *which, said="n\n", status=1)
    waiting = len(list(penstock.list(status=["PENDING"])))
    done = json.loads(run(penstock, api_key, "tasks", "cancel", *which, "--yes", "--json"))
    unmeant = run(penstock, api_key, "tasks", "cancel", "--status", "pending", "--yes", status=2)

    assert listed == mine
    assert dry == "2 would be canceled\n"
    assert f"Cancel 2 tasks ({mine[0]}, {mine[1]})?" in refused
    assert waiting == 3
    assert (done["matched"], done["changed"], done["task_ids"]) == (2, 2, mine)
    assert "or --all" in unmeant
    assert len(list(penstock.list(status=["PENDING"]))) == 1
