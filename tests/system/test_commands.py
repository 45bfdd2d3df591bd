"""The commands that talk to a server, as processes: what they print, what they leave, how they exit."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from penstock import Client
from penstock.settings import clean_environment
from tests.support import slow_model
from tests.support.processes import System, up, wait_for

ROOT = Path(__file__).parents[2]
PHOTO = ROOT / "src/penstock/models/photo.jpg"

SLOW = ("--model", slow_model.MODEL, "--param", "product=file", "--param")
"""Before `tiles=N`: a run that takes N times 0.05 s, and no CPU."""


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """One worker that runs two tasks at a time."""
    environ = {"GPU_IDS": "cpu", "PENSTOCK_WORKER_SLOTS": "2", "PENSTOCK_WORKER_RESERVED_SLOTS": "0"}
    environ |= {"PENSTOCK_MODELS_MODULES": "tests.support.slow_model"}
    with up(tmp_path_factory.mktemp("up"), RATE_LIMIT_PER_MINUTE="100000", **environ) as running:
        yield running


def environ_of(system: System) -> dict[str, str]:
    return clean_environment() | {"PENSTOCK_URL": system.url, "PENSTOCK_API_KEY": system.api_key, "COLUMNS": "200"}


def start(system: System, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "penstock", *map(str, arguments)],
        env=environ_of(system),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def penstock(system: System, *arguments: object, status: int = 0) -> str:
    """What the command prints on stdout, and below it on stderr."""
    process = start(system, *arguments)
    out, err = process.communicate(timeout=120)
    assert process.returncode == status, out + err
    return out + err


def lines_of(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def photos(folder: Path, *names: str, width: int = 40) -> Path:
    """Different crops of the photo."""
    pixels = Image.open(PHOTO)
    for n, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels.resize((width + n, width)).save(path)
    return folder


def tasks_of(system: System) -> list[dict[str, Any]]:
    with system.client() as client:
        return list(client.get("/v1/tasks?limit=100").json()["data"])


def test_a_folder_is_run_and_a_second_run_skips_what_is_there(system: System, tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", "a.jpg", "trip/b.png", "c.webp")
    out = tmp_path / "out"

    first = penstock(system, "submit", folder, "-o", out, "--param", "variant=clean", "--format", "webp")
    second = penstock(system, "submit", folder, "-o", out, "--param", "variant=clean", "--format", "webp", "--json")

    found = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert found == ["a.webp", "c.webp", "trip/b.webp"]
    with Image.open(out / "trip" / "b.webp") as image:
        assert image.size == (4 * 41, 4 * 40)
    assert "3 done" in first
    assert "0 done, 3 skipped (already in" in second
    assert [line["status"] for line in lines_of(second)] == ["skipped"] * 3


def test_a_score_becomes_a_json_file(system: System, tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", "a.jpg")

    printed = penstock(system, "submit", folder / "a.jpg", "-o", tmp_path, "--model", "image-scoring-v1", "--json")

    (line,) = lines_of(printed)
    assert (line["status"], line["reuse"], line["target"]) == ("done", "miss", str(tmp_path / "a.json"))
    assert 1 <= json.loads((tmp_path / "a.json").read_text())["score"] <= 10


def test_failures_are_a_table_and_exit_status_one(system: System, tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", "good.png")
    (folder / "broken.png").write_bytes((folder / "good.png").read_bytes()[:200])
    (folder / "text.jpg").write_text("no image")

    printed = penstock(system, "submit", folder, "-o", tmp_path / "out", status=1)
    as_json = penstock(system, "submit", folder, "-o", tmp_path / "out", "--json", status=1)

    assert "1 done, 2 failed" in printed
    assert "image_decode_failed" in printed
    assert "unsupported_image_format" in printed
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.png"]
    found = {Path(line["source"]).name: line for line in lines_of(as_json)}
    assert [found[name]["status"] for name in ("good.png", "broken.png", "text.jpg")] == ["skipped", "failed", "failed"]
    assert found["text.jpg"]["error"]["code"] == "unsupported_image_format"


def test_ctrl_c_leaves_whole_files_and_the_next_run_takes_the_same_tasks(system: System, tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(6)]
    folder, out = photos(tmp_path / "in", *names), tmp_path / "out"
    before = {task["task_id"] for task in tasks_of(system)}
    process = start(system, "submit", folder, "-o", out, *SLOW, "tiles=10", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())

    process.send_signal(signal.SIGINT)
    rest, said = process.communicate(timeout=60)
    there = [path.name for path in out.iterdir()]
    second = lines_of(penstock(system, "submit", folder, "-o", out, *SLOW, "tiles=10", "--json"))

    assert process.returncode == 130, said
    assert "the same command continues with them" in said
    assert "Traceback" not in said
    done = [first, *lines_of(rest), *(line for line in second if line["status"] == "done")]
    assert sorted(there) == sorted(Path(line["target"]).name for line in [first, *lines_of(rest)])
    assert sorted(Path(line["source"]).name for line in done) == names
    new = {task["task_id"] for task in tasks_of(system)} - before
    assert len(new) == len(names), "none was submitted twice"
    assert new == {line["task_id"] for line in done}
    assert {(out / name).read_bytes() for name in names} == {slow_model.PRODUCTS["file"].file}


@pytest.mark.at_length
def test_a_task_that_was_canceled_is_run_again_by_the_next_submit(system: System, tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", "a.png")
    submit = ("submit", folder, "-o", tmp_path / "out", *SLOW, "tiles=1")
    penstock(system, "queues", "pause", slow_model.MODEL)
    process = start(system, *submit)
    before = len(tasks_of(system))
    while len(tasks_of(system)) == before:
        time.sleep(0.02)
    task_id = tasks_of(system)[0]["task_id"]
    canceled = penstock(system, "cancel", task_id)
    out, err = process.communicate(timeout=60)
    penstock(system, "queues", "resume", slow_model.MODEL)

    assert f"{task_id}  CANCELED" in canceled
    assert process.returncode == 1, out + err
    assert "canceled" in out
    (line,) = lines_of(penstock(system, *submit, "--json"))
    assert (line["status"], line["task_id"]) == ("done", task_id)


def test_a_submit_outlives_a_server_that_is_killed(system: System, tmp_path: Path) -> None:
    names = [f"{n}.png" for n in range(4)]
    folder = photos(tmp_path / "in", *names)
    before = len(tasks_of(system))
    process = start(system, "submit", folder, "-o", tmp_path / "out", *SLOW, "tiles=20", "--json")
    assert process.stdout is not None
    first = json.loads(process.stdout.readline())

    os.kill(system.process.child("api"), signal.SIGKILL)
    rest, said = process.communicate(timeout=120)

    assert process.returncode == 0, said
    assert {line["status"] for line in [first, *lines_of(rest)]} == {"done"}
    assert len(tasks_of(system)) == before + len(names)


def test_a_wait_outlives_a_server_that_is_killed(system: System, tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", "a.png")
    with Client(system.url, system.api_key) as client, ThreadPoolExecutor(1) as pool:
        submitted = client.submit(folder / "a.png", slow_model.MODEL, params={"tiles": 40}, reuse=False)
        waiting = pool.submit(client.wait, submitted.task_id, timeout_s=100)
        time.sleep(0.3)
        os.kill(system.process.child("api"), signal.SIGKILL)

        assert waiting.result().succeeded


@pytest.mark.at_length
def test_jpg_is_another_word_for_jpeg_here_too(system: System, tmp_path: Path) -> None:
    (line,) = lines_of(penstock(system, "submit", "--sample", "-o", tmp_path, "--format", "jpg", "--json"))

    assert line["status"] == "done"
    assert (tmp_path / "photo.jpg").read_bytes().startswith(b"\xff\xd8")


def test_watch_ls_show_cancel_and_retry(system: System, tmp_path: Path) -> None:
    source = photos(tmp_path / "in", "a.png", width=60) / "a.png"
    (line,) = lines_of(penstock(system, "submit", source, "-o", tmp_path / "out", "--json"))
    task_id = line["task_id"]

    watched = lines_of(penstock(system, "watch", task_id, "--json"))
    listed = lines_of(penstock(system, "ls", "--status", "success", "--limit", "1", "--json"))
    table = penstock(system, "ls", "--model", "superres-x4")
    shown = penstock(system, "show", task_id)
    refused = penstock(system, "cancel", task_id, "tsk_nobody", status=1)
    again = lines_of(penstock(system, "retry", task_id, "--json", status=1))

    assert [view["status"] for view in watched] == ["SUCCESS"]
    assert [view["task_id"] for view in listed] == [task_id]
    assert task_id in table
    assert "SUCCESS" in table
    assert re.search(r"result\.width +240\b", shown)
    assert "task_already_final" in refused
    assert "task_not_found" in refused
    assert again[0]["error"] == "task_already_final"


def test_watch_follows_a_task_that_runs_and_tells_of_its_end(system: System, tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", "a.png")
    submitting = start(system, "submit", folder, "-o", tmp_path / "out", *SLOW, "tiles=10000")
    before = len(tasks_of(system))
    while len(tasks_of(system)) == before:
        time.sleep(0.02)
    task_id = tasks_of(system)[0]["task_id"]
    watching = start(system, "watch", task_id, "--json")
    with system.client() as client:
        wait_for(client, task_id, "RUNNING")
    penstock(system, "cancel", task_id)
    out, err = watching.communicate(timeout=60)
    submitting.communicate(timeout=60)

    assert watching.returncode == 1, err
    assert lines_of(out)[-1]["status"] == "CANCELED"


@pytest.mark.at_length
def test_a_task_with_a_result_keeps_its_whole_progress(system: System, tmp_path: Path) -> None:
    folder = photos(tmp_path / "in", "a.png", width=130)
    for options in ((*SLOW, "tiles=3"), ("--param", "tile=96")):
        (line,) = lines_of(penstock(system, "submit", folder, "-o", tmp_path / "out", *options, "--json"))
        (task,) = lines_of(penstock(system, "show", line["task_id"], "--json"))

        assert task["progress"]["total"] > 1
        assert task["progress"]["done"] == task["progress"]["total"]
        assert task["progress"]["ratio"] == 1


def test_models_and_workers(system: System) -> None:
    shown = penstock(system, "models", "show", "superres-x4")
    names = [model["name"] for model in lines_of(penstock(system, "models", "--json"))]
    (worker,) = lines_of(penstock(system, "workers", "--json"))

    assert names == ["image-scoring-v1", slow_model.MODEL, "superres-x4"]
    assert re.search(r"^param variant +(general\|clean\|best|best\|clean\|general) *$", shown, re.MULTILINE)
    assert worker["id"] in penstock(system, "workers")
    assert (worker["device"], worker["slots"]) == ("cpu", 2)


def test_queues_are_paused_purged_and_resumed(system: System) -> None:
    paused = penstock(system, "queues", "pause", "superres-x4", "--priority", "low")
    with system.client() as client:
        body = {"model": "superres-x4", "priority": "low", "input": {"image_url": "https://example.com/x.png"}}
        task_id = client.post("/v1/tasks", json=body).json()["task_id"]
    listed = [q for q in lines_of(penstock(system, "queues", "--json")) if q["model"] == "superres-x4"]
    unsure = penstock(system, "queues", "purge", "superres-x4", status=1)
    purged = penstock(system, "queues", "purge", "superres-x4", "--priority", "low", "--yes")
    resumed = penstock(system, "queues", "resume", "superres-x4")

    assert 'paused by key "default" since' in paused
    assert [(q["depth"], q["paused"] is not None) for q in listed] == [(0, False), (0, False), (1, True)]
    assert "Cancel all waiting tasks of your tenant for superres-x4?" in unsure
    assert "1 canceled" in purged
    assert "paused" not in resumed
    assert "CANCELED" in penstock(system, "show", task_id)


@pytest.mark.at_length
def test_workers_are_drained_and_resumed(system: System) -> None:
    (worker,) = lines_of(penstock(system, "workers", "--json"))
    drained = penstock(system, "workers", "drain", worker["id"])
    listed = penstock(system, "workers")
    resumed = lines_of(penstock(system, "workers", "resume", worker["id"], "nobody", "--json", status=1))

    assert "DRAINING" in drained
    assert "DRAINING" in listed
    assert "MiB" in listed
    assert [(answer["id"], answer.get("state"), answer.get("error")) for answer in resumed] == [
        (worker["id"], "READY", None),
        ("nobody", None, "worker_not_found"),
    ]


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("queues", "pause", "nothing"), 1, "model_not_found"),
        (("ls", "--url", "http://127.0.0.1:9"), 1, "unreachable"),
        (("ls", "--api-key", "wrong-wrong-wrong"), 1, "unauthorized"),
        (("ls", "--url", "example.com"), 78, "no URL"),
        (("show", "tsk_nobody"), 1, "task_not_found"),
        (("logs", ""), 2, "the id of a task is empty"),
        (("models", "show", ""), 2, "the name is empty"),
        (("submit", str(PHOTO), "--model", "nothing"), 1, "model_not_found"),
        (("submit", str(PHOTO), "--param", "x"), 2, "name=value"),
        (("submit", "/nowhere"), 2, "does not exist"),
        (("submit", str(ROOT / "deploy")), 78, "no image files"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(system: System, arguments: tuple[str, ...], status: int, says: str) -> None:
    printed = penstock(system, *arguments, status=status)

    assert says in printed
    assert "Traceback" not in printed


def test_without_a_word_the_server_of_this_directory_is_meant(system: System, tmp_path: Path) -> None:
    (tmp_path / "penstock-data").symlink_to(system.process.log.parent)

    finished = subprocess.run(
        [sys.executable, "-m", "penstock", "models"],
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )

    assert finished.returncode == 0, finished.stderr
    assert "superres-x4" in finished.stdout
