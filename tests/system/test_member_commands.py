"""Models that take more than an image and give more than one file, by the commands and the Python client."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from penstock import Client, PenstockApiError
from penstock.client.files import DIRECT_BYTES
from penstock.settings import clean_environment
from tests.support.processes import System, up

pytestmark = pytest.mark.at_length

PHOTO = Path(__file__).parents[2] / "src/penstock/models/photo.jpg"
WAV = b"RIFF\x24\0\0\0WAVEfmt " + bytes(200)
NAMES = ["left.wav", "right.wav", "told.json"]


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    environ = {"GPU_IDS": "cpu", "PENSTOCK_MODELS_MODULES": "tests.support.sound_models"}
    environ |= {"PENSTOCK_MODELS_SERVE": "voices,echo,table"}
    with up(tmp_path_factory.mktemp("up"), RATE_LIMIT_PER_MINUTE="100000", **environ) as running:
        yield running


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    with Client(system.url, system.api_key) as client:
        yield client


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.wav", "b b.wav"):
        (folder / name).write_bytes(WAV + name.encode())
    (folder / "notes.txt").write_text("no sound")
    return folder


def penstock(system: System, *arguments: object, status: int = 0) -> str:
    """What the command prints on stdout, and below it on stderr."""
    environ = {"PENSTOCK_URL": system.url, "PENSTOCK_API_KEY": system.api_key, "COLUMNS": "200"}
    command = [sys.executable, "-m", "penstock", *map(str, arguments)]
    done = subprocess.run(
        command, env=clean_environment() | environ, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout + done.stderr


def lines_of(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def names_in(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir())


def test_a_folder_of_sound_is_run_with_one_text_and_a_second_run_skips_it(
    system: System, folder: Path, tmp_path: Path
) -> None:
    command = ("submit", folder, "--model", "voices", "--input", "text=hi", "-o", tmp_path / "out", "--json")
    first, second = lines_of(penstock(system, *command)), lines_of(penstock(system, *command))

    saved = ["wav", *NAMES[1:]]
    assert names_in(tmp_path / "out") == sorted(f"{stem}.{name}" for stem in ("a", "b b") for name in saved)
    assert (tmp_path / "out" / "a.wav").read_bytes() == WAV + b"a.wav"
    assert json.loads((tmp_path / "out" / "b b.told.json").read_text()) == {"text": "hi", "name": "b b.wav"}
    assert [line["status"] for line in first + second] == ["done", "done", "skipped", "skipped"]
    (a,) = (line for line in first if line["source"].endswith("a.wav"))
    assert a["targets"] == [str(tmp_path / "out" / f"a.{name}") for name in saved]


def test_a_text_becomes_a_file_whose_suffix_is_that_of_its_type(system: System, tmp_path: Path) -> None:
    command = ("submit", "--model", "echo", "-o", tmp_path / "out", "--json", "--input")
    (first,) = lines_of(penstock(system, *command, "text=hi there"))
    (second,) = lines_of(penstock(system, *command, 'text="hi there"'))

    (name,) = names_in(tmp_path / "out")
    assert (name[:5], name[-4:]) == ("echo-", ".txt")
    assert (tmp_path / "out" / name).read_text() == "hi there"
    assert [first["status"], second["status"]] == ["done", "skipped"], "the same text is the same file"


def test_a_model_that_says_nothing_of_its_results_has_them_named_by_their_type(system: System, tmp_path: Path) -> None:
    printed = [penstock(system, "submit", PHOTO, "--model", "table", "-o", tmp_path / "out") for _ in range(2)]

    assert names_in(tmp_path / "out") == ["photo.csv"]
    assert (tmp_path / "out/photo.csv").read_bytes() == b"a,b"
    assert "1 done" in printed[0]
    assert "skipped" in printed[1]


def test_a_wrong_member_is_one_line_before_anything_is_sent(system: System) -> None:
    printed = penstock(system, "submit", "--model", "voices", "--input", "sound=@a.wav", status=2)

    assert "the model has no member 'sound'; it takes audio, text" in printed


def test_a_member_that_the_server_refuses_is_named_and_ends_the_run(
    system: System, folder: Path, tmp_path: Path
) -> None:
    printed = penstock(
        system, "submit", folder, "--model", "voices", "--input", "text=7", "-o", tmp_path / "out", "--concurrency", 1,
        "--json", status=1,
    )  # fmt: skip

    (line,) = lines_of(printed)
    assert (line["error"]["code"], line["status"]) == ("invalid_request", "failed")
    assert "the other files would fail" in printed


def test_files_of_a_result_are_downloaded_alone_or_together(client: Client, tmp_path: Path) -> None:
    task = client.run(model="voices", inputs={"audio": WAV, "text": "hi"})
    assert task.result is not None

    together = client.download_all(task.task_id, tmp_path, prefix="x-")
    alone = client.download(task.task_id, tmp_path / "own.wav", name="right.wav")

    assert [file.name for file in task.result.files] == NAMES
    assert [path.name for path in together] == [f"x-{name}" for name in NAMES]
    assert alone.read_bytes() == client.result(task.task_id, "left.wav") == client.result(task.task_id) == WAV
    assert task.result.data == {"text": "hi", "name": ""}
    with pytest.raises(PenstockApiError) as refused:
        client.download(task.task_id, tmp_path / "none.wav", name="no such.wav")
    assert refused.value.status == 404
    assert names_in(tmp_path) == sorted(["own.wav", *(f"x-{name}" for name in NAMES)])


def test_an_open_file_and_one_that_is_too_large_for_a_request_arrive_with_their_names(
    client: Client, tmp_path: Path
) -> None:
    large = tmp_path / "large.wav"
    large.write_bytes(WAV + bytes(DIRECT_BYTES))

    with (tmp_path / "large.wav").open("rb") as file:
        tasks = [client.run(model="voices", inputs={"audio": audio}) for audio in (file, large)]

    assert [len(client.result(task.task_id)) for task in tasks] == [len(WAV) + DIRECT_BYTES] * 2


def test_a_batch_and_a_map_take_members(client: Client, folder: Path) -> None:
    sounds = sorted(folder.glob("*.wav"))
    sources = [{"audio": sound, "text": sound.stem} for sound in sounds]

    mapped = list(client.map(sources, "voices"))
    batch = client.submit_batch(dict(zip(["1", "2"], sources, strict=True)), "voices")
    client.wait_batch(batch.batch_id, timeout_s=60, every_s=0.05)

    assert [one.error for one in mapped] == [None, None]
    assert sorted(one.task.result.data["text"] for one in mapped if one.task and one.task.result) == ["a", "b b"]
    lines = client.batch_lines(batch.batch_id)
    assert {(line.custom_id, line.status) for line in lines} == {("1", "SUCCESS"), ("2", "SUCCESS")}


def test_what_a_model_has_logged_and_its_traceback_are_for_the_operator(system: System, client: Client) -> None:
    submitted = client.submit(model="voices", inputs={"audio": WAV, "text": "raise"})
    task = client.wait(submitted.task_id, timeout_s=60)
    assert task.error is not None

    shown = penstock(system, "show", task.task_id)
    log = penstock(system, "logs", task.task_id)

    assert (task.error.code, len(task.attempts)) == ("model_error", 1)
    assert "secret" not in shown
    assert f"penstock logs {task.task_id}" in shown
    assert "asked to say raise" in log
    assert "ArithmeticError: the secret of the model" in log
    assert client.log(task.task_id).count("Traceback") == 1


def test_the_version_of_a_model_can_be_named(client: Client) -> None:
    task = client.run(model="echo@1", inputs={"text": "hi"})

    assert task.model_version == "1"
    with pytest.raises(PenstockApiError, match="model_not_found"):
        client.submit(model="echo@2", inputs={"text": "hi"})


def test_the_models_are_listed_with_their_states_and_shown_with_what_they_take(system: System) -> None:
    listed = penstock(system, "models")
    shown = penstock(system, "models", "show", "voices")

    assert [line.split() for line in listed.splitlines()[1:]] == [
        ["echo", "any", "1", "yes", "ready"],
        ["table", "any", "1", "yes", "ready"],
        ["voices", "any", "1", "yes", "ready"],
    ]
    assert "file (audio/*)" in shown
    assert "json, optional: what to say" in shown
