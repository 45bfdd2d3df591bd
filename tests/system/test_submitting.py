"""`penstock submit` where something is in its way: names, full disks, limits, lost results, signals. The commands are
processes, and so is the server."""

import asyncio
import base64
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from PIL import Image

from penstock.settings import Settings, clean_environment
from tests.support.api_server import ServerProcess
from tests.support.bad_links import revoking_link
from tests.support.lengths import at_length
from tests.support.processes import System, up

MODEL = ("--model", "noop-v1")
LONGEST_S = 120


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """A worker with the model that does nothing."""
    environ = {"GPU_IDS": "cpu", "PENSTOCK_MODELS_MODULES": "penstock.models.noop"}
    with up(tmp_path_factory.mktemp("up"), RATE_LIMIT_PER_MINUTE="100000", **environ) as running:
        yield running


def start(url: str, api_key: str, *arguments: object, before: tuple[str, ...] = ()) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*before, sys.executable, "-m", "penstock", *map(os.fsencode, map(str, arguments))],
        env=clean_environment() | {"PENSTOCK_URL": url, "PENSTOCK_API_KEY": api_key, "COLUMNS": "1000"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def run(system: System, *arguments: object, status: int = 0, before: tuple[str, ...] = ()) -> tuple[str, str]:
    """What the command prints on stdout and on stderr."""
    process = start(system.url, system.api_key, *arguments, before=before)
    out, err = (printed.decode() for printed in process.communicate(timeout=LONGEST_S))
    assert process.returncode == status, out + err
    assert "Traceback" not in err
    return out, err


def lines_of(printed: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in printed.splitlines() if line.startswith("{")]


def picture(number: int) -> bytes:
    """One of a kind."""
    with io.BytesIO() as file:
        Image.new("RGB", (1, 1), (number // 65536, number // 256 % 256, number % 256)).save(file, "PNG")
        return file.getvalue()


def pictures(folder: Path, count: int, *, kind: int) -> Path:
    """Different for each kind, so that no test finds the tasks of another."""
    folder.mkdir()
    for n in range(count):
        (folder / f"{n:02}.png").write_bytes(picture(1000 * kind + n))
    return folder


def tasks_of(system: System) -> int:
    with system.client() as client:
        return sum(client.get("/v1/stats").json()["tasks"].values())


NAMES = {
    "not UTF-8": b"latin1-\xe9.png",
    "240 bytes": b"x" * 236 + b".png",
    "255 bytes": b"y" * 251 + b".png",
    "80 characters of three bytes": ("写" * 80).encode() + b".png",
    "83 characters of three bytes": ("真" * 83).encode() + b".png",
    "255 bytes that are not UTF-8": b"\xe9" * 251 + b".png",
    "a line break": b"a\nb.png",
    "an escape code": b"\x1b[31mred.png",
}


@pytest.mark.parametrize("as_json", [True, False], ids=["json", "text"])
def test_a_file_may_have_any_name_that_a_disk_takes(system: System, tmp_path: Path, as_json: bool) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for n, name in enumerate(NAMES.values()):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(picture(n + 100 * as_json))

    printed, _ = run(system, "submit", folder, "-o", out, *MODEL, *(["--json"] if as_json else []))
    again, _ = run(system, "submit", folder, "-o", out, *MODEL, "--json")

    results = [os.fsencode(path.name) for path in out.iterdir()]
    assert len(results) == len(NAMES)
    assert all(name.endswith(b".json") and len(name) <= 255 for name in results)
    assert b"latin1-\xe9.json" in results
    assert b"x" * 236 + b".json" in results
    assert {line["status"] for line in lines_of(again)} == {"skipped"}
    if as_json:
        named = {
            base64.b64decode(line["source_bytes"]) if "source_bytes" in line else os.fsencode(line["source"])
            for line in lines_of(printed)
        }
        assert {name.rpartition(b"/")[2] for name in named} == set(NAMES.values())
        assert all(Path(line["target"]).exists() for line in lines_of(printed) if "target_bytes" not in line)
    else:
        assert len(printed.splitlines()) == len(NAMES) + 1
        assert "\x1b[31mred" not in printed


@pytest.mark.at_length
def test_a_file_that_fails_is_in_the_table_whatever_its_name(system: System, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/bad-\xe9.png")).write_bytes(b"no image")

    printed, _ = run(system, "submit", folder, "-o", tmp_path / "out", *MODEL, status=1)
    as_json, _ = run(system, "submit", folder, "-o", tmp_path / "out", *MODEL, "--json", status=1)

    assert "bad-\N{REPLACEMENT CHARACTER}.png" in printed
    assert "unsupported_image_format" in printed
    (line,) = lines_of(as_json)
    assert line["source"].endswith("bad-\N{REPLACEMENT CHARACTER}.png")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("show", b"\xe9"), 2),
        (("submit", __file__, "--param", b"name=\xe9"), 2),
        (("ls", "--api-key", "schlüssel"), 78),
        *at_length(
            (("cancel", b"\xe9", "--json"), 2),
            (("queues", "pause", b"\xe9"), 2),
            (("submit", __file__, "--model", b"\xe9"), 2),
            (("ls", "--model", b"\xe9"), 2),
            (("ls", "--api-key", b"\xe9"), 78),
            (("ls", "--url", b"http://\xe9"), 78),
        ),
    ],
)
def test_what_is_no_utf8_on_the_command_line_is_refused_in_a_line(
    system: System, arguments: tuple[str | bytes, ...], status: int
) -> None:
    printed, said = run(system, *map(os.fsdecode, arguments), status=status)

    assert len((printed + said).splitlines()) <= 5


@pytest.mark.at_length
def test_a_limit_of_the_rate_is_said_in_a_line_and_ctrl_c_ends_the_wait(
    settings: Settings, api_key: str, tmp_path: Path
) -> None:
    folder = pictures(tmp_path / "in", 40, kind=2)
    slow = replace(settings, api=replace(settings.api, rate_limit_per_minute=5))
    with ServerProcess(slow) as server:
        process = start(server.url, api_key, "submit", folder, "-o", tmp_path / "out", "--json")
        assert process.stderr is not None
        line = next(line for line in map(bytes.decode, process.stderr) if line.startswith("the server limits the rate"))
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate(timeout=LONGEST_S)

    assert re.fullmatch(r"the server limits the rate, continuing in \d+ s\n", line)
    assert process.returncode == 130
    assert b"server limits the rate" not in rest, "the other files say nothing of the same wait"


def test_a_wrong_param_ends_the_run_at_the_first_file(system: System, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", 30, kind=3)

    printed, said = run(
        system, "submit", folder, "-o", tmp_path / "out", *MODEL, "--param", "nothing=1", "--json", status=1
    )

    (line,) = lines_of(printed)
    assert line["error"]["code"] == "invalid_request"
    assert "0 done, 1 failed, 29 not tried" in said
    assert "stopped: the other files would fail as this one did" in said
    assert "`penstock models show noop-v1` says what it takes" in said


@pytest.mark.at_length
async def test_a_key_that_is_revoked_ends_the_run(system: System, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", 30, kind=12)
    async with revoking_link(system.url, system.api_key, after_submits=3) as url:
        wish = ("submit", folder, "-o", tmp_path / "out", *MODEL, "--concurrency", "1", "--json")
        process = start(url, system.api_key, *wish)
        out, said = await asyncio.to_thread(process.communicate, timeout=LONGEST_S)

    ends = lines_of(out.decode())
    assert process.returncode == 1
    assert [line["status"] for line in ends] == ["done", "done", "done", "failed"]
    assert ends[-1]["error"]["code"] == "unauthorized"
    assert "3 done, 1 failed, 26 not tried" in said.decode()


def test_what_is_wrong_with_one_file_ends_no_run(system: System, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", 3, kind=4)
    (folder / "00.png").write_bytes(b"no image")

    printed, _ = run(system, "submit", folder, "-o", tmp_path / "out", *MODEL, "--concurrency", "1", "--json", status=1)

    assert [line["status"] for line in lines_of(printed)] == ["failed", "done", "done"]


def test_a_full_disk_is_named_and_ends_the_run(system: System, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", 30, kind=5), tmp_path / "out"
    out.mkdir()
    mount = f'mount -t tmpfs -o nr_inodes=6 tmpfs "{out}" && exec "$@"'
    apart = ("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh")
    if shutil.which("unshare") is None or subprocess.run([*apart, "true"], check=False).returncode:
        pytest.skip("no small file system can be mounted here")
    before = tasks_of(system)

    printed, said = run(
        system, "submit", folder, "-o", out, *MODEL, "--concurrency", "1", "--json", status=1, before=apart
    )

    ends = lines_of(printed)
    done = [line for line in ends if line["status"] == "done"]
    (failed,) = [line for line in ends if line["status"] == "failed"]
    assert 1 <= len(done) <= 5
    assert failed["error"]["message"] == f"{failed['target']}: No space left on device"
    assert tasks_of(system) - before == len(ends), "nothing is run whose result has no place"
    assert f"{len(done)} done, 1 failed, {30 - len(ends)} not tried" in said


@pytest.mark.at_length
def test_a_result_that_is_gone_is_made_anew(system: System, tmp_path: Path) -> None:
    photo, out = tmp_path / "photo.jpg", tmp_path / "out"
    Image.new("RGB", (8, 8), "teal").save(photo)
    objects = system.process.log.parent / "objects"
    names: list[str] = []
    for _ in range(3):
        shutil.rmtree(out, ignore_errors=True)
        for result in [path for path in objects.rglob("*") if path.is_file() and "results" in path.parts]:
            result.unlink()
        (line,) = lines_of(run(system, "submit", photo, "-o", out, "--json")[0])
        names.append(line["task_id"])
        with Image.open(out / "photo.png") as image:
            assert image.size == (32, 32)

    assert len(set(names)) == 3


@pytest.mark.at_length
def test_a_run_that_asks_for_something_else_is_another_run(system: System, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", 2, kind=20), tmp_path / "out"

    def ends_of(*options: str) -> list[str]:
        return sorted(
            line["status"] for line in lines_of(run(system, "submit", folder, "-o", out, "--json", *options)[0])
        )

    first = [ends_of(), ends_of(), ends_of("--priority", "high")]
    other = ends_of("--param", "scale=2")
    with Image.open(out / "00.png") as image:
        size = image.size
    again = ends_of("--param", "scale=2")
    (folder / "00.png").touch()
    touched = ends_of("--param", "scale=2")
    (folder / "00.png").write_bytes(picture(20_999))
    changed = ends_of("--param", "scale=2")
    _, said = run(system, "submit", folder, "-o", out, "--json", "--format", "png", "--param", "scale=3")

    assert first == [["done", "done"], ["skipped", "skipped"], ["skipped", "skipped"]]
    assert other == ["done", "done"]
    assert size == (2, 2)
    assert again == touched == ["skipped", "skipped"]
    assert changed == ["done", "skipped"]
    assert "2 of them had a result of another request" in said


@pytest.mark.at_length
def test_what_a_folder_run_passes_over_is_counted_by_its_kind(system: System, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "in", 1, kind=21)
    for name in ("a.txt", "b.TXT", "c.mp4", "none", ".hidden.png", ".cache/d.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    (folder / "gone.png").symlink_to("nowhere.png")
    (folder / "elsewhere").symlink_to(tmp_path)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()

    printed, said = run(system, "submit", folder, "-o", tmp_path / "out", *MODEL, "--json")
    _, refused = run(system, "submit", tmp_path / "texts", "-o", tmp_path / "out", *MODEL, status=78)

    assert [line["status"] for line in lines_of(printed)] == ["done"]
    (line,) = [line for line in said.splitlines() if line.startswith("passed over: ")]
    kinds = {"2 .txt", "2 hidden", "1 .mp4", "1 without a suffix", "1 broken link", "1 link to a folder"}
    assert set(line.removeprefix("passed over: ").split(", ")) == kinds
    assert "there are no image files among 1 .txt; noop-v1 takes .png, .jpg, .webp" in refused


def test_an_empty_file_is_no_result(system: System, tmp_path: Path) -> None:
    folder, out = pictures(tmp_path / "in", 1, kind=6), tmp_path / "out"
    out.mkdir()
    (out / "00.json").touch()

    (line,) = lines_of(run(system, "submit", folder, "-o", out, *MODEL, "--json")[0])

    assert line["status"] == "done"
    assert json.loads((out / "00.json").read_bytes()) == {"ok": True}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_who_stops_a_run_is_told_what_becomes_of_the_tasks(
    system: System, tmp_path: Path, number: signal.Signals
) -> None:
    folder, out = pictures(tmp_path / "in", 3, kind=7 + number), tmp_path / "out"
    with system.client() as client:
        client.post("/v1/queues/noop-v1/pause").raise_for_status()
    try:
        before = tasks_of(system)
        process = start(system.url, system.api_key, "submit", folder, "-o", out, *MODEL)
        while tasks_of(system) < before + 3:
            assert process.poll() is None
        process.send_signal(number)
        _, said = process.communicate(timeout=LONGEST_S)
    finally:
        with system.client() as client:
            client.post("/v1/queues/noop-v1/resume").raise_for_status()

    assert process.returncode == 128 + number
    assert said.decode().endswith("stopped; the tasks go on at the server, and the same command continues with them\n")
    assert b"Traceback" not in said


@pytest.mark.parametrize("loaded", ["penstock.cli.submitting", *at_length("click", "msgspec", "httpx", "rich.console")])
def test_ctrl_c_while_a_command_is_loaded_ends_it_without_a_traceback(loaded: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-X", "importtime", "-m", "penstock", "submit", __file__],
            env=clean_environment() | {"PENSTOCK_URL": url, "PENSTOCK_API_KEY": "a-key-only-for-the-tests"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        assert process.stderr is not None
        for line in process.stderr:
            if line.rpartition("|")[2].strip() == loaded:
                break
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=LONGEST_S)

    assert process.returncode in (-signal.SIGINT, 128 + signal.SIGINT)
    assert "Traceback" not in said
