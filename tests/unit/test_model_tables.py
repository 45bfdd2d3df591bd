"""What `penstock models` prints, on a terminal of 80 columns."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner

from penstock.cli.main import cli
from penstock.cli.models.tables import models, print_state, show
from penstock.cli.tables import workers
from penstock.client import Example, FaultyModel, Member, Model, ModelOnWorker, Version, Worker
from penstock.client.model_views import ExampleAnswer

SINCE = "2026-11-28T23:40:11.123Z"


def on(state: str, worker: str = "gpu0", reason: str = "", memory_bytes: int = 0) -> ModelOnWorker:
    return ModelOnWorker(
        worker=worker, device="cuda:0", state=state, since=SINCE, reason=reason, memory_bytes=memory_bytes
    )


def a_model(*versions: Version, **more: object) -> Model:
    return Model(
        **{"name": "detector", "title": "Detector", "version": "2", "produces": "data"} | more, versions=versions
    )  # type: ignore[arg-type]


def a_worker(*models: str) -> Worker:
    state = {"id": "gpu0", "device": "cuda:0", "host": "here", "state": "READY", "started_at": SINCE}
    return Worker(**state, models=models, slots=8, running=0)  # type: ignore[arg-type]


READY = Version(
    version="2",
    digest="d2",
    is_default=True,
    state="ready",
    workers=(on("ready", memory_bytes=220 << 20), on("evicted", "gpu1")),
    guessed={"input.range": "the file does not say", "output.labels": "the file has none"},
)
FAILED = Version(version="3", digest="d3", state="failed", workers=(on("failed", reason="the check fails by 0.3"),))


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], list[str]]:
    monkeypatch.setenv("COLUMNS", "80")
    return lambda: [line.rstrip() for line in capsys.readouterr().out.splitlines()]


def test_each_version_has_a_row_and_the_model_is_named_once(printed: Callable[[], list[str]]) -> None:
    cold = Version(version="1", digest="d1", state="cold", workers=(on("cold"),))
    models([a_model(cold, READY, FAILED, notes={"kind": "image-to-boxes"})], [], as_json=False)

    assert [line.split() for line in printed()] == [
        ["model", "kind", "version", "default", "state"],
        ["detector", "image-to-boxes", "1", "cold"],
        ["2", "yes", "ready", "on", "1/2", "2", "guessed"],
        ["3", "failed"],
    ]


@pytest.mark.parametrize("name", ["n" * 64, "a-quite-long-name-of-a-model", "s"])
def test_a_name_of_any_length_is_whole_at_80_columns(name: str, printed: Callable[[], list[str]]) -> None:
    models([a_model(READY, name=name, notes={"kind": "image-to-embedding"})], [], as_json=False)
    lines = printed()

    assert all(len(line) <= 80 for line in lines)
    assert "".join(line[: lines[0].index("kind")].strip() for line in lines[1:]) == name
    assert "image-to-embedding" in lines[1]
    assert "2 guessed" in lines[1]


def test_a_model_that_no_worker_has_says_so(printed: Callable[[], list[str]]) -> None:
    models([a_model(Version(version="1", digest="d", is_default=True))], [], as_json=False)

    assert "no worker" in printed()[1]


def test_a_version_that_cannot_be_served_is_below_the_table_with_the_reason(printed: Callable[[], list[str]]) -> None:
    faulty = FaultyModel(name="broken", version="2", worker="gpu0", reason="input.range: not one of 0-1, 0-255")
    models([a_model(READY)], [faulty], as_json=False)

    assert printed()[-1] == "broken@2 on gpu0: input.range: not one of 0-1, 0-255"


def test_everything_about_a_model_is_shown(printed: Callable[[], list[str]]) -> None:
    model = a_model(
        READY,
        FAILED,
        inputs={"image": Member(), "text": Member(kind="json", required=False, description="what to find")},
        params={"$ref": "#/$defs/P", "$defs": {"P": {"properties": {"variant": {"enum": ["a", "b"]}}}}},
        guessed=READY.guessed,
        example=Example(request={"model": "detector"}, answer=ExampleAnswer(files=("result.png",))),
        licence="MIT",
    )
    show(model, as_json=False)
    shown = [" ".join(line.split()) for line in printed()]

    assert {"name detector", "licence MIT", "version 2 ready on 1/2 (default)", "version 3 failed"} <= set(shown)
    assert {"input image image", "input text json, optional: what to find", "param variant a|b"} <= set(shown)
    assert "guessed input.range the file does not say" in shown
    assert {'example {"model":"detector"}', 'its answer {"data":null,"files":["result.png"]}'} <= set(shown)


def test_a_worker_says_since_when_with_how_much_memory_and_why_not(printed: Callable[[], list[str]]) -> None:
    show(a_model(READY, FAILED), as_json=False)
    text = " ".join(" ".join(printed()).split())

    assert "on gpu0 ready since 2026-11-28 23:40:11, 220 MiB" in text
    assert "on gpu0 failed since 2026-11-28 23:40:11: the check fails by 0.3" in text


def test_a_switch_prints_the_version_its_state_and_why_it_failed(printed: Callable[[], list[str]]) -> None:
    print_state(a_model(READY, FAILED), as_json=False)
    print_state(a_model(READY, FAILED, version="3"), as_json=False)

    assert printed() == ["detector@2 (default)  ready on 1/2", "detector@3  failed: the check fails by 0.3"]


def test_programs_are_told_too_what_cannot_be_served(capsys: pytest.CaptureFixture[str]) -> None:
    faulty = FaultyModel(name="broken", version="2", worker="gpu0", reason="line 3")
    models([a_model(READY)], [faulty], as_json=True)
    served, broken = map(json.loads, capsys.readouterr().out.splitlines())

    assert served["name"] == "detector"
    assert broken == {"name": "broken", "version": "2", "worker": "gpu0", "reason": "line 3"}


@pytest.mark.parametrize("option", [["--url", "http://elsewhere"], ["--api-key", "k"], ["--json"]])
def test_an_option_before_the_subcommand_is_refused_not_dropped(option: list[str]) -> None:
    done = CliRunner().invoke(cli, ["models", *option, "set-default", "face", "2"])

    assert done.exit_code == 2
    assert f"give {option[0]} after set-default, not before it" in done.output


def test_a_worker_with_hundreds_of_versions_takes_few_lines(printed: Callable[[], list[str]]) -> None:
    versions = [f"model{number}@1" for number in range(200)]
    workers([a_worker("superres-x4", *versions)], as_json=False)
    many = printed()
    workers([a_worker("dog@1", "superres-x4")], as_json=False)

    assert len(many) <= 5
    assert "200" in "".join(many)
    assert "dog@1" in "".join(printed())
