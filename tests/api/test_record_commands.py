"""Commands about tasks, batches, uploads and webhooks by their ids, or the beginnings of these, as people use them."""

import json
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from penstock import AsyncClient, Client
from penstock.api.routes.settings import shown
from penstock.cli.main import cli
from penstock.cli.whole_ids import whole_task_id
from penstock.core.batch import task_id_of
from penstock.settings import QueueSettings, RedisSettings, Settings, StorageSettings
from tests.support.drive import MODEL, image

pytestmark = pytest.mark.shared_server

Run = Callable[..., Result]


@pytest.fixture
def penstock(server: str, api_key: str) -> Iterator[Client]:
    with Client(server, api_key, patience_s=20) as client:
        yield client


@pytest.fixture
def run(server: str, api_key: str) -> Run:
    """Runs a command at the server."""

    def invoke(*arguments: object, status: int = 0, columns: int = 200, said: str | None = None) -> Result:
        environ = {"PENSTOCK_URL": server, "PENSTOCK_API_KEY": api_key, "COLUMNS": str(columns)}
        done = CliRunner().invoke(cli, [str(one) for one in arguments], env=environ, input=said)
        assert done.exit_code == status, done.output
        return done

    return invoke


def lines_of(done: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def submitted(client: Client, **options: Any) -> str:
    return client.submit(image(), MODEL, reuse=False, **options).task_id


def test_the_beginning_of_an_id_is_enough_wherever_a_task_is_named(run: Run, penstock: Client) -> None:
    task_id = submitted(penstock)
    beginning = task_id[:18]

    shown = lines_of(run("show", beginning, "--json"))
    why = lines_of(run("explain", beginning.removeprefix("tsk_"), "--json"))
    log = lines_of(run("logs", beginning.upper().replace("TSK_", "tsk_"), "--json"))
    canceled = run("cancel", beginning)
    retried = lines_of(run("retry", beginning, "--json"))
    penstock.cancel(task_id)
    deleted = lines_of(run("delete", beginning, "--json"))

    assert [one[0]["task_id"] for one in (shown, why, log)] == [task_id] * 3
    assert canceled.stdout == f"{task_id}  CANCELED\n"
    assert retried[0]["status"] == "PENDING"
    assert deleted == [{"task_id": beginning, "done": True}]
    assert "result_expired" in run("show", task_id, status=1).stderr


def test_a_beginning_of_several_ids_is_refused_with_the_candidates(run: Run, penstock: Client) -> None:
    first, second = submitted(penstock), submitted(penstock)
    common = next(first[:n] for n in range(len(first), 0, -1) if second.startswith(first[:n]))

    several = run("show", common, status=1).stderr
    nobodys = run("show", "tsk_" + "f" * 12, status=1).stderr
    refused = run("cancel", common, "tsk_nobody", status=1).stderr

    assert "give more of it" in several
    assert f"  {first}\n" in several
    assert f"  {second}\n" in several
    assert "no task has an id that begins with tsk_ffffffffffff; `penstock ls` lists them" in nobodys
    assert "give more of it" in refused
    assert "task_not_found" in refused


async def test_a_line_of_a_batch_is_found_by_its_beginning_however_late_it_becomes_a_task(
    api_key: str, server: str
) -> None:
    """The server looks at the tasks of the time that is in an id; a line may become one hours later."""
    async with AsyncClient(server, api_key) as client:
        batch = await client.submit_batch({f"{n}": image() for n in range(3)}, MODEL)
        late = [task_id_of(batch.batch_id, place) for place in range(3)]

        assert [await whole_task_id(client, one[:24]) for one in late] == late


def test_acts_without_ids_hit_what_the_filters_match(run: Run, penstock: Client) -> None:
    mine = [submitted(penstock, metadata={"album": "7"}) for _ in range(2)]
    other = submitted(penstock)

    dry = lines_of(run("cancel", "--metadata", "album=7", "--dry-run", "--json"))
    asked = run("cancel", "--metadata", "album=7", said="n\n", status=1)
    done = run("cancel", "--metadata", "album=7", "--yes")
    gone = run("delete", "--metadata", "album=7", "--status", "canceled", "--yes")
    both = run("cancel", other, "--model", MODEL, status=2)
    every = run("delete", status=2)

    assert set(dry[0]["task_ids"]) == set(mine)
    assert "Cancel 2 tasks (tsk_" in asked.stderr
    assert (done.stdout, gone.stdout) == ("2 canceled\n", "2 deleted\n")
    assert "but not both" in both.stderr
    assert "this would delete every task: give ids, or a filter" in every.stderr
    assert penstock.get(other).status == "PENDING"


def test_tasks_are_listed_by_key_error_and_the_beginning_of_their_id(run: Run, penstock: Client) -> None:
    task_id = submitted(penstock)

    mine = lines_of(run("ls", "--id", task_id[:20], "--json"))
    nobodys = lines_of(run("ls", "--key", "nobody", "--json"))
    failed = lines_of(run("ls", "--error", "model_error", "--json"))

    assert [task["task_id"] for task in mine] == [task_id]
    assert nobodys == failed == []


def test_a_batch_is_submitted_listed_shown_canceled_and_deleted(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "trip").mkdir(parents=True)
    (folder / "a.png").write_bytes(image())
    (folder / "trip" / "b.png").write_bytes(image())
    (folder / "notes.txt").touch()

    made = run("batch", "submit", folder, "--model", MODEL, "--json")
    batch_id = lines_of(made)[0]["batch_id"]
    listed = lines_of(run("batch", "ls", "--limit", "1", "--json"))
    shown = lines_of(run("batch", "show", batch_id[:20], "--json"))
    run("batch", "cancel", batch_id[:20])
    watched = run("batch", "watch", batch_id[:20], "--json", status=1)
    results = lines_of(run("batch", "results", batch_id[:20], "--json"))
    run("batch", "delete", batch_id[:20])

    assert "passed over: 1 .txt" in made.stderr
    assert listed[0]["batch_id"] == shown[0]["batch_id"] == batch_id
    assert shown[0]["counts"]["total"] == 2
    assert lines_of(watched)[-1]["status"] == "CANCELED"
    assert {line["custom_id"] for line in results} == {"a.png", "trip/b.png"}
    assert "result_expired" in run("batch", "show", batch_id, status=1).stderr


def test_a_file_of_lines_is_a_batch_and_what_is_wrong_with_it_is_listed(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    line = {"custom_id": "one", "input": {"image_url": "https://example.com/a.png"}}
    lines.write_text(json.dumps(line) + "\n" + json.dumps(line | {"custom_id": "two"}))
    wrong = tmp_path / "wrong.jsonl"
    wrong.write_text(json.dumps(line) + "\n" + json.dumps(line))

    made = lines_of(run("batch", "submit", lines, "--model", MODEL, "--json"))
    refused = run("batch", "submit", wrong, "--model", MODEL, status=1).stderr

    assert made[0]["counts"]["total"] == 2
    assert "line 2 (one): another line has this custom_id (custom_id)" in refused


def test_the_files_that_a_batch_cannot_take_are_named(run: Run, tmp_path: Path) -> None:
    (tmp_path / "trip").mkdir()
    (tmp_path / "a.png").write_bytes(image())
    (tmp_path / "trip" / "broken.png").write_bytes(b"no image")

    refused = run("batch", "submit", tmp_path, "--model", MODEL, status=1).stderr

    assert "line 2 (trip/broken.png): the input is no image that is known" in refused


def test_images_that_are_too_large_for_a_line_keep_their_place_among_the_others(run: Run, tmp_path: Path) -> None:
    names = ["a.png", "b.png", "c.png", "d.png"]
    for name, more in zip(names, (800_000, 0, 900_000, 0), strict=True):
        (tmp_path / name).write_bytes(image() + bytes(more))

    (made,) = lines_of(run("batch", "submit", tmp_path, "--model", MODEL, "--json"))
    run("batch", "cancel", made["batch_id"])
    run("batch", "watch", made["batch_id"], "--json", status=1)
    results = lines_of(run("batch", "results", made["batch_id"], "--json"))

    assert [line["custom_id"] for line in results] == names
    assert [line["line"] for line in results] == [1, 2, 3, 4]


def test_a_line_that_is_no_json_is_told_without_empty_brackets(run: Run, tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text("no json\n")

    refused = run("batch", "submit", lines, "--model", MODEL, status=1).stderr

    assert "  line 1: the line is not JSON, or is nested too deeply\n" in refused


def test_uploads_are_sent_shown_and_deleted(run: Run, tmp_path: Path) -> None:
    photo = tmp_path / "photo.png"
    photo.write_bytes(image())

    (sent,) = lines_of(run("uploads", "put", photo, "--json"))
    (shown,) = lines_of(run("uploads", "show", sent["upload_id"][:12], "--json"))
    listed = lines_of(run("uploads", "ls", "--json"))
    unknown = run("uploads", "show", "upl_" + 31 * "0", status=1).stderr
    deleted = run("uploads", "delete", sent["upload_id"], "upl_nobody", status=1)

    assert (shown["status"], shown["size"], shown["sha256"]) == ("READY", len(image()), sent["sha256"])
    assert sent["upload_id"] in [one["upload_id"] for one in listed]
    assert "no upload that was sent from here has an id that begins with upl_000" in unknown
    assert deleted.stdout == f"{sent['upload_id']}  deleted\n"
    assert "upload_not_found" in deleted.stderr
    assert "`penstock uploads put FILE` sends it again" in deleted.stderr


def test_why_a_task_waits_is_said_in_sentences(run: Run, penstock: Client) -> None:
    submitted(penstock)
    task_id = submitted(penstock)
    penstock.pause_queue(MODEL)
    try:
        said = run("explain", task_id).stdout
    finally:
        penstock.resume_queue(MODEL)

    assert said.startswith(f"{task_id} is PENDING")
    assert "ahead of it" in said
    assert "it waits: " in said
    assert "nobody can tell when it will be done" in said


def test_a_task_without_a_webhook_says_so(run: Run, penstock: Client) -> None:
    task_id = submitted(penstock)

    assert "has no webhook" in run("webhooks", "show", task_id[:18], status=1).stderr
    assert "webhook_not_found" in run("webhooks", "redeliver", task_id[:18], status=1).stderr


@pytest.mark.parametrize(
    ("arguments", "advice"),
    [
        (("show", "tsk_nobody"), "`penstock ls` lists the tasks"),
        (("batch", "show", "bat_nobody"), "`penstock batch ls` lists the batches"),
        (("workers", "drain", "nobody"), "`penstock workers` lists them"),
        (("models", "show", "nothing"), "`penstock models` lists them"),
        (("ls", "--url", "http://127.0.0.1:9"), "start a server here by `penstock up`"),
        (("ls", "--api-key", "wrong-wrong-wrong"), "give a key by --api-key"),
    ],
)
def test_an_error_ends_with_what_to_do(run: Run, arguments: tuple[str, ...], advice: str) -> None:
    said = run(*arguments, status=1).stderr

    assert advice in said
    assert "GET /v1" not in said


def test_the_settings_of_the_running_server_are_printed_without_secrets(run: Run, api_key: str) -> None:
    printed = run("config", "--server").stdout
    changed = run("config", "--server", "--changed").stdout
    (as_json,) = lines_of(run("config", "--server", "--json"))
    here = run("config", "--changed", "--json").stdout

    settings = tomllib.loads(printed)
    assert settings == as_json
    assert settings["queue"]["max_depth"] == QueueSettings().max_depth
    assert "keys" not in settings["api"]
    assert "url" not in settings["redis"]
    assert settings["redis"]["namespace"] in changed
    assert "max_retries" not in changed
    assert api_key not in printed
    assert "max_retries" not in here


def test_what_is_no_secret_and_what_may_be_one_are_told_apart() -> None:
    endpoint = StorageSettings(s3_endpoint="https://user:canary@s3.example.com/x", s3_secret_key="canary")

    text = json.dumps(shown(Settings(storage=endpoint, redis=RedisSettings(url="redis://:canary@host"))))

    assert "canary" not in text
    assert "https://s3.example.com/x" in text


def test_top_shows_once_what_the_server_does(run: Run, penstock: Client) -> None:
    penstock.pause_queue(MODEL)
    try:
        submitted(penstock)
        shown = run("top", "--once", columns=80).stdout
        (as_json,) = lines_of(run("top", "--once", "--json"))
    finally:
        penstock.resume_queue(MODEL)

    assert max(map(len, shown.splitlines())) <= 80
    assert f"! {MODEL} is paused, " in shown
    assert "PENDING" in shown
    assert "no worker is ready; tasks wait" in as_json["wrong"]
    assert as_json["tasks"]["PENDING"] >= 1
    assert as_json["ended_per_s"] is None
    assert {queue["model"] for queue in as_json["queues"]} >= {MODEL}
