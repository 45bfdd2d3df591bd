"""`penstock keys` and `penstock audit`, as operators use them."""

import json
import re
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from penstock.cli.main import cli
from penstock.client import Client, PenstockApiError
from penstock.core.access_keys import PATTERN
from tests.support.drive import MODEL, image

pytestmark = [pytest.mark.shared_server, pytest.mark.usefixtures("patient")]

Run = Callable[..., Result]


@pytest.fixture
def run(server: str, api_key: str) -> Run:
    """Runs a command at the server with the key of an administrator, or with another one."""

    def invoke(*arguments: str, key: str = api_key, status: int = 0, columns: int = 200) -> Result:
        environ = {"PENSTOCK_URL": server, "PENSTOCK_API_KEY": key, "COLUMNS": str(columns)}
        done = CliRunner().invoke(cli, arguments, env=environ)
        assert done.exit_code == status, done.output
        return done

    return invoke


def made(run: Run, *arguments: str) -> tuple[str, str]:
    """The text and the id of a new key."""
    said = json.loads(run("keys", "create", "--tenant", "acme", *arguments, "--json").stdout)
    return said["key"], said["record"]["id"]


def test_a_key_is_printed_alone_so_that_a_script_can_take_it(run: Run) -> None:
    done = run("keys", "create", "--tenant", "acme", "--scopes", "read,operate", "--expires", "never")

    key = done.stdout.strip()
    assert re.fullmatch(PATTERN, key)
    assert "tenant acme: read, operate; it works until it is revoked" in done.stderr
    assert key not in done.stderr


def test_keys_are_listed_rotated_and_revoked(run: Run) -> None:
    text, key_id = made(run, "--name", "web", "--expires", "30d")
    assert "forbidden" in run("keys", "list", key=text, status=1).stderr

    rotated = run("keys", "rotate", key_id, "--overlap", "2h")
    new_id = rotated.stdout.strip().split("_")[1]
    assert f"{key_id} works until" in rotated.stderr
    revoked = run("keys", "revoke", new_id, "no-such-key", status=1)

    assert f"{new_id}  revoked, of tenant acme" in revoked.stdout
    assert "key_not_found" in revoked.stderr
    listed = [json.loads(line) for line in run("keys", "list", "--tenant", "acme", "--json").stdout.splitlines()]
    assert [(key["id"], key["status"], key["name"]) for key in listed] == [
        (new_id, "revoked", "web"), (key_id, "active", "web"),
    ]  # fmt: skip
    table = run("keys", "list").stdout
    assert re.search(rf"{key_id} +acme +web +read submit +20[-0-9]+ [:0-9]+ ", table)
    assert text not in table
    assert "no managed keys" in run("keys", "list", "--tenant", "nobody").stdout


def test_ids_scopes_and_times_are_whole_at_eighty_columns(run: Run) -> None:
    _, key_id = made(run, "--name", "a-name-that-is-long", "--scopes", "read,submit,operate,admin")
    run("keys", "create", "--tenant", "t" * 64)

    table, audit = (run(*words, columns=80).stdout for words in (("keys", "list"), ("audit",)))

    assert re.search(rf"^{key_id} .* \d{{4}}-\d\d-\d\d \d\d:\d\d ", table, re.MULTILINE)
    assert {"read", "submit", "operate", "admin"} <= set(table.split())
    assert f"key.create {key_id}" in audit
    assert not {"…"} & {*table, *audit}
    assert max(map(len, (table + audit).splitlines())) <= 80


def test_the_tokens_of_a_tenant_are_revoked(run: Run) -> None:
    assert "tokens of acme" in run("keys", "revoke-tokens", "--tenant", "acme").stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("create", "--tenant", "acme", "--scopes", "read,root"), "'root' is no scope"),
        (("create", "--tenant", "acme", "--expires", "soon"), "such as 90d"),
        (("create", "--tenant", "acme", "--expires", "90"), "such as 90d"),
        (("create", "--tenant", "acme", "--expires", "0d"), "`never`"),
        (("create", "--tenant", "a/b"), "is no name"),
        (("create", "--tenant", "acme", "--name", "Null"), "is no name"),
        (("list", "--tenant", "a b"), "is no name"),
        (("new", "--name", "_me"), "is no name"),
        (("rotate", "x", "--overlap", "never"), "such as 90d"),
        (("create",), "--tenant"),
    ],
)
def test_a_mistyped_option_is_explained(run: Run, arguments: tuple[str, ...], said: str) -> None:
    assert said in run("keys", *arguments, status=2).stderr


def test_an_operator_acts_in_another_tenant_by_commands(run: Run, server: str, api_key: str) -> None:
    acme, _ = made(run)
    with Client(server, acme) as client:
        ids = [client.submit(image(width), MODEL).task_id for width in (8, 9, 10)]

    def of_acme(*arguments: str, key: str = api_key, status: int = 0) -> str:
        done = run(*arguments, "--tenant", "acme", key=key, status=status)
        return done.stdout + done.stderr

    assert ids[0] not in run("ls").stdout
    listed = of_acme("ls")
    assert all(task_id in listed for task_id in ids)
    assert "PENDING" in of_acme("show", ids[0])
    assert "CANCELED" in of_acme("cancel", ids[0])
    assert "Cancel 2 tasks of the tenant acme (" in of_acme("tasks", "cancel", "--status", "pending", "--all", status=1)
    assert of_acme("queues", "purge", MODEL, "--yes") == "2 canceled\n"
    assert "scope `operate`" in run("ls", "--tenant", "other", key=acme, status=1).stderr
    assert "is no name" in run("ls", "--tenant", "a/b", status=2).stderr
    with Client(server, api_key, tenant="acme") as client:
        assert [task.task_id for task in client.list()] == ids[::-1]
        with pytest.raises(PenstockApiError, match="tenant"):
            client.submit(image(), MODEL)


def test_the_audit_is_shown_and_exported_as_json_lines(run: Run) -> None:
    assert "nothing yet" in run("audit").stdout
    _, key_id = made(run)
    run("queues", "pause", MODEL)
    run("queues", "resume", MODEL)

    table, lines = run("audit").stdout, run("audit", "--json").stdout.splitlines()

    assert re.search(rf"127\.0\.0\.1 +queue\.pause {MODEL} paused=3", table)
    acts = [(entry["act"], entry["subject"]) for entry in map(json.loads, lines)]
    assert acts == [("queue.resume", MODEL), ("queue.pause", MODEL), ("key.create", key_id)]
    assert len(run("audit", "--json", "--limit", "2").stdout.splitlines()) == 2
