"""Commands, as far as they need no server: which files are meant, what a person is shown."""

import io
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner
from rich.console import Console
from rich.table import Table

from penstock.cli.client import params_of
from penstock.cli.doctor.findings import ok, row_of
from penstock.cli.main import cli
from penstock.cli.progress_bars import Pauses
from penstock.cli.sections import SECTIONS
from penstock.cli.sources import files_of, request_id
from penstock.cli.tables import tasks_table, workers
from penstock.cli.terminal import console, failures_of, ids, plain, table
from penstock.client import PenstockApiError, Worker
from penstock.client.files import read_all
from penstock.client.views import Failure, Task
from penstock.errors import ConfigurationError


def files(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())


def targets(root: Path, paths: list[Path], output: Path, suffix: str = "png") -> dict[str, str]:
    return {
        job.source.relative_to(root).as_posix(): job.target.relative_to(root).as_posix()
        for job in files_of(paths, output, suffix)
    }


def test_a_folder_is_walked_and_keeps_its_shape(tmp_path: Path) -> None:
    files(tmp_path, "in/b.jpg", "in/a.PNG", "in/trip/c.webp", "in/notes.txt", "in/.thumbs/d.png", "in/.e.png")

    assert targets(tmp_path, [tmp_path / "in"], tmp_path / "out") == {
        "in/a.PNG": "out/a.png",
        "in/b.jpg": "out/b.png",
        "in/trip/c.webp": "out/trip/c.png",
    }


def test_a_file_that_is_named_may_be_called_anything(tmp_path: Path) -> None:
    files(tmp_path, "photo", "scan.tiff")

    paths = [tmp_path / "photo", tmp_path / "scan.tiff"]
    assert list(targets(tmp_path, paths, tmp_path / "out", "json").values()) == ["out/photo.json", "out/scan.json"]


def test_files_that_differ_in_their_suffix_keep_it(tmp_path: Path) -> None:
    files(tmp_path, "in/a.jpg", "in/a.png", "in/b.png")

    assert list(targets(tmp_path, [tmp_path / "in"], tmp_path / "out").values()) == [
        "out/a.jpg.png",
        "out/a.png.png",
        "out/b.png",
    ]


def test_the_result_of_a_longer_name_is_no_result_of_the_shorter_one(tmp_path: Path) -> None:
    files(tmp_path, "photo.jpg", "photo.v2.jpg", "out/photo.v2.png")

    short, long = files_of([tmp_path / "photo.jpg", tmp_path / "photo.v2.jpg"], tmp_path / "out", None)

    assert (short.is_done, long.is_done) == (False, True)


def test_results_inside_of_the_folder_are_no_sources(tmp_path: Path) -> None:
    files(tmp_path, "a.jpg", "out/a.png", "output.png")

    assert targets(tmp_path, [tmp_path], tmp_path / "out") == {"a.jpg": "out/a.png", "output.png": "out/output.png"}


def test_results_may_lie_above_the_folder(tmp_path: Path) -> None:
    files(tmp_path, "in/a.jpg")

    assert targets(tmp_path, [tmp_path / "in"], tmp_path) == {"in/a.jpg": "a.png"}


@pytest.mark.parametrize(
    ("paths", "output", "says"),
    [(["in"], "in", "among"), (["in/a.png"], "in", "take its place"), (["in", "more"], "out", "would both be")],
)
def test_no_result_takes_the_place_of_another_file(tmp_path: Path, paths: list[str], output: str, says: str) -> None:
    files(tmp_path, "in/a.png", "more/a.png")

    with pytest.raises(ConfigurationError, match=says):
        files_of([tmp_path / path for path in paths], tmp_path / output, "png")


def test_the_name_of_a_task_is_its_bytes_and_what_is_said(tmp_path: Path) -> None:
    files(tmp_path, "a.png", "b.png")
    (tmp_path / "copy.png").write_bytes((tmp_path / "a.png").read_bytes())
    clean = {"model": "m", "params": {"variant": "clean"}}

    name = request_id(tmp_path / "a.png", clean)
    assert name == request_id(tmp_path / "copy.png", dict(reversed(clean.items())))
    assert len({name, request_id(tmp_path / "b.png", clean), request_id(tmp_path / "a.png", {"model": "m"})}) == 3
    assert len(name) <= 128 - len("-99999")


def test_params_are_json_where_they_can_be() -> None:
    assert params_of(("variant=clean", "scale=2", "deep=true", "where=a=b", 'list=["x"]')) == {
        "variant": "clean",
        "scale": 2,
        "deep": True,
        "where": "a=b",
        "list": ["x"],
    }


@pytest.mark.parametrize("pair", ["variant", "=clean", ""])
def test_params_without_a_name_or_a_value_are_refused(pair: str) -> None:
    with pytest.raises(click.BadParameter, match="name=value"):
        params_of((pair,))


def test_nothing_that_others_wrote_is_obeyed_by_a_terminal() -> None:
    console = Console(record=True, width=200, color_system=None, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    why = Failure(code="internal", message="[bold]x[/bold]\x1b]0;owned\x07\u202e\n", retryable=False)

    console.print(failures_of([("[red]\x1b[2Jphoto.jpg", why, None)], console))
    console.print(plain("\x9b31m"))
    console.file.close()

    text = console.export_text()
    assert "[bold]x[/bold]" in text
    assert "[red]" in text
    assert not set("\x1b\x07\x9b\u202e") & set(text)


NARROW, WIDE = (Console(force_terminal=True, width=width, color_system=None) for width in (80, 120))


def rows_of(shown: Table, out: Console) -> list[str]:
    with out.capture() as captured:
        out.print(shown)
    return captured.get().splitlines()


def test_tasks_are_a_line_each_on_a_terminal_of_80_columns() -> None:
    failure = Failure(code="image_decode_failed", message="", retryable=False)
    task = Task(
        task_id=f"tsk_{'0' * 32}",
        model="superres-x4",
        status="FAILED",
        stage="done",
        priority="high",
        created_at="2026-01-01T00:00:00Z",
        error=failure,
        timing={"total_ms": 400.0},
    )

    heads, row = rows_of(tasks_table([task], NARROW), NARROW)
    wide_heads, _ = rows_of(tasks_table([task], WIDE), WIDE)

    assert heads.split() == ["task", "status", "model", "created", "error"]
    assert "superres-x4" in row
    assert "image_decode_failed" in row
    assert wide_heads.split() == ["task", "status", "model", "priority", "created", "took", "error"]


def test_the_code_of_an_error_is_never_broken() -> None:
    why = Failure(code="unsupported_image_format", message="the input is no image that is known", retryable=False)

    rows = rows_of(failures_of([("photos/a photo.png", why, f"tsk_{'0' * 32}")], NARROW), NARROW)

    assert any("unsupported_image_format" in row for row in rows)


def test_a_name_that_is_no_utf8_can_be_shown_on_a_terminal() -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    Console(file=out).print(plain(os.fsdecode(b"latin1-\xe9.png")))
    out.flush()

    assert out.buffer.getvalue().decode() == "latin1-\N{REPLACEMENT CHARACTER}.png\n"


def test_a_result_s_name_that_does_not_fit_is_cut_and_stays_another_s(tmp_path: Path) -> None:
    names = [f"{'写' * 80}{'x' * 10}{n}.png" for n in range(3)]
    files(tmp_path, *(f"in/{name}" for name in names))

    first, again = (targets(tmp_path, [tmp_path / "in"], tmp_path / "out", "webp") for _ in range(2))
    cut = [Path(target).name for target in first.values()]

    assert first == again, "a second run finds what the first has left"
    assert len(set(cut)) == 3
    assert all(len(os.fsencode(name)) <= 255 and name.startswith("写" * 79) and name.endswith(".webp") for name in cut)


def test_what_many_files_wait_for_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    pauses = Pauses()
    for _ in range(16):
        pauses(PenstockApiError("600 a minute", code="rate_limited", retryable=True), 33.2)
    pauses(PenstockApiError("http://gpu:1: \x1b[31mno answer", code="unreachable", retryable=True), 0.3)

    assert capsys.readouterr().err.splitlines() == [
        "the server limits the rate, continuing in 34 s",
        "unreachable: http://gpu:1:  [31mno answer; trying again",
    ]


def test_a_table_shows_ids_whole(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    task_id = "tsk_01a222be69afca0487f5d89f4d6271c4"
    rows = table(ids("task"), *(f"column {n}" for n in range(7)))
    rows.add_row(task_id, *["something long"] * 7)

    monkeypatch.delenv("COLUMNS", raising=False)
    console().print(rows)
    into_a_file = capsys.readouterr().out
    monkeypatch.setenv("COLUMNS", "60")
    console().print(rows)
    narrow = capsys.readouterr().out

    assert task_id in into_a_file
    assert "".join(line.split(" ")[0] for line in narrow.splitlines()[1:]).endswith(task_id)


def test_the_id_of_a_worker_of_another_day_stays_whole_on_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    known = {"id": "vm-cpu-0a513922", "device": "cpu", "host": "vm", "slots": 8, "running": 0, "state": "READY"}
    models = {"models": ["image-scoring-v1", "superres-x4"], "tasks": [], "spool_full": False}
    started = datetime.now(UTC) - timedelta(days=3)
    memory = {"process": 148_594_688, "tasks": 0, "tasks_limit": 1, "device_limit": None, "pinned": 0}
    about = {"started_at": f"{started:%Y-%m-%dT%H:%M:%S.000Z}", "memory": memory, "reason": ""}
    workers([msgspec.convert(known | models | about, Worker)], as_json=False)

    row = capsys.readouterr().out.splitlines()[1]
    assert row.split()[0] == known["id"]
    assert row.rstrip().endswith("3 d")


def test_an_address_longer_than_a_line_of_doctor_is_not_cut(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    sentinels = ",".join(f"redis-{number}.example.com:26379" for number in range(4))
    found = f"Redis 7.0.15 at redis+sentinel://{sentinels}/penstock, with an append-only file"
    console().print(row_of(ok("redis", found)))

    said = "".join(line[14:].strip() for line in capsys.readouterr().out.splitlines())
    assert said.replace(" ", "") == found.replace(" ", "")


def test_why_a_worker_is_down_is_not_squeezed_into_a_column(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    reason = "image-scoring-v1.nima.onnx cannot run on cuda:1: this process sees no GPU (CUDA failure 100)"
    known = {"id": "vm-cuda:1-down", "device": "cuda:1", "host": "vm", "models": [], "slots": 0, "running": 0}
    since = {"started_at": "2026-11-28T21:48:37.399Z", "memory": None, "spool_full": False, "tasks": []}
    workers([msgspec.convert(known | since | {"state": "DOWN", "reason": reason}, Worker)], as_json=False)
    lines = capsys.readouterr().out.splitlines()

    assert len(lines) == 4, "the heads, the worker, and two lines of up to 80 characters"
    assert " ".join(line.strip() for line in lines[2:]) == f"vm-cuda:1-down: {reason}"


def test_every_command_of_people_has_a_form_for_programs() -> None:
    """But for those that run a server, and one that prints JSON anyway."""
    without = {" ".join(path) for path, command in commands(cli) if not has_json(command)}

    assert without == {"api", "worker", "openapi"}


def test_the_list_of_commands_fits_a_terminal_and_has_each_below_a_heading() -> None:
    with click.Context(cli, info_name="penstock", terminal_width=80) as context:
        text = cli.get_help(context)

    shown = {name for name, command in cli.commands.items() if not command.hidden}
    assert shown == {name for names in SECTIONS.values() for name in names}
    assert {line.split()[0] for line in text.splitlines() if line.startswith("  ")} >= shown
    assert max(map(len, text.splitlines())) <= 80
    assert "..." not in text.partition("ARGS]...")[2]


def groups(command: click.Command) -> Iterator[click.Group]:
    if isinstance(command, click.Group):
        yield command
        context = click.Context(command)
        for name in command.list_commands(context):
            if inner := command.get_command(context, name):
                yield from groups(inner)


@pytest.mark.parametrize("group", list(groups(cli))[1:], ids=lambda group: group.name)
def test_what_a_group_says_about_its_commands_ends_with_its_sentence(group: click.Group) -> None:
    said = group.get_help(click.Context(group, terminal_width=80)).partition("Commands:")[2]

    assert said
    assert "..." not in said


def commands(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, inner in command.commands.items():
            yield from commands(inner, *path, name)
    if (not isinstance(command, click.Group) or command.invoke_without_command) and not command.hidden:
        yield path, command


def has_json(command: click.Command) -> bool:
    return any("--json" in option.opts for option in command.params)


def test_a_pipe_is_no_source_and_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "photo.png"
    os.mkfifo(pipe)

    with pytest.raises(ConfigurationError, match="no regular file"):
        files_of([pipe], tmp_path / "out", ".png")
    with pytest.raises(OSError, match="a pipe is no file"):
        read_all(pipe)


def test_a_file_that_cannot_be_read_ends_a_command_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "photo.png").symlink_to("/proc/self/mem")

    ended = CliRunner().invoke(
        cli, ["batch", "submit", str(tmp_path), "--url", "http://127.0.0.1:9", "--api-key", "pen_of_a_test"]
    )

    assert (ended.exit_code, ended.output) == (1, "Error: [Errno 5] Input/output error\n")
