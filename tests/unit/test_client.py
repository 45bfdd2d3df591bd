"""The client, as far as it needs no server: where it finds one, what it sends, what it makes of answers."""

import base64
import copy
import hashlib
import io
import os
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest

from penstock import AsyncClient, Client, PenstockApiError
from penstock.client import Mapped
from penstock.client.address import address_of
from penstock.client.files import DIRECT_BYTES, File, place_in
from penstock.client.inputs import Inputs, Source, large_files
from penstock.client.media_types import media_type_of, suffix_of
from penstock.client.problems import failure_of, refusal
from penstock.client.requests import Options, batch_of, body_of
from penstock.client.retries import BASE_S, CAP_S, LEAST_S, Tries
from penstock.client.views import Failure, Task, Upload
from penstock.errors import ConfigurationError

KEY = "a-key-only-for-the-tests"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory, and an environment that says nothing."""
    monkeypatch.chdir(tmp_path)
    for name in ("PENSTOCK_URL", "PENSTOCK_API_KEY", "PENSTOCK_UP_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def with_own_key(here: Path) -> None:
    (here / "penstock-data").mkdir()
    (here / "penstock-data" / "api-key").write_text("pen_of_this_directory\n")


def test_what_is_given_wins_over_the_environment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PENSTOCK_URL", "https://gpu.example.com/")
    monkeypatch.setenv("PENSTOCK_API_KEY", "from-the-environment")
    with_own_key(here)

    assert address_of(None, None) == ("https://gpu.example.com", "from-the-environment")
    assert address_of("http://other:1", KEY) == ("http://other:1", KEY)


def test_without_a_word_it_is_the_server_of_this_directory(here: Path) -> None:
    with_own_key(here)

    assert address_of(None, None) == ("http://127.0.0.1:8000", "pen_of_this_directory")


def test_the_key_of_this_directory_is_sent_to_no_other_machine(here: Path) -> None:
    with_own_key(here)

    with pytest.raises(ConfigurationError, match="PENSTOCK_API_KEY"):
        address_of("https://gpu.example.com", None)


def with_own_url(data_dir: Path, url: str) -> None:
    data_dir.mkdir(exist_ok=True)
    (data_dir / "url").write_text(f"{url}\n")


def test_a_server_of_this_directory_is_found_at_any_port_and_gets_its_own_key(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_own_key(here)
    for url in ("http://127.0.0.1:18231", "http://192.168.7.7:8000"):
        with_own_url(here / "penstock-data", url)
        assert address_of(None, None) == (url, "pen_of_this_directory")

    monkeypatch.setenv("PENSTOCK_URL", "http://127.0.0.1:9")
    assert address_of(None, None) == ("http://127.0.0.1:9", "pen_of_this_directory")
    assert address_of("http://127.0.0.1:10", None)[0] == "http://127.0.0.1:10"


def test_the_data_directory_of_the_environment_is_that_of_the_client_too(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_own_key(here)
    with_own_url(here / "other", "http://127.0.0.1:2")
    (here / "other" / "api-key").write_text("pen_of_the_other")
    monkeypatch.setenv("PENSTOCK_UP_DATA_DIR", str(here / "other"))

    assert address_of(None, None) == ("http://127.0.0.1:2", "pen_of_the_other")


@pytest.mark.parametrize("url", ["gpu.example.com", "ftp://x", "http://", "http://x:port", "file:///etc/passwd"])
def test_what_is_no_url_is_refused(here: Path, url: str) -> None:
    with pytest.raises(ConfigurationError, match="no URL"):
        Client(url, KEY)


@pytest.mark.parametrize("source", ["https://x.example/a.png", "HTTP://x/a.png", "data:image/png;base64,AAAA"])
def test_a_url_is_sent_as_it_is(source: str) -> None:
    assert msgspec.json.decode(body_of(source, "m", {}))["input"] == {"image_url": source}


def test_a_path_and_bytes_are_sent_inline(tmp_path: Path) -> None:
    file = tmp_path / "data:not a URL.png"
    data = b"\x89PNG..."
    file.write_bytes(data)
    uri = f"data:;base64,{base64.b64encode(data).decode()}"
    sources: list[Source] = [file, str(file), data]

    assert [msgspec.json.decode(body_of(s, "m", {}))["input"]["image_url"] for s in sources] == [uri] * 3


def members_of(inputs: Inputs) -> dict[str, Any]:
    members: dict[str, Any] = msgspec.json.decode(body_of(inputs, "m", {}))["input"]
    return members


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def test_files_among_the_members_are_sent_with_their_name_and_its_type_and_all_else_as_it_is(tmp_path: Path) -> None:
    voice, odd = tmp_path / "a voice.wav", tmp_path / "voice.odd-suffix"
    voice.write_bytes(b"RIFF")
    odd.write_bytes(b"odd")
    upload = Upload(upload_id="upl_1", size=1, sha256="")

    with voice.open("rb") as opened:
        sent = members_of(
            {"audio": voice, "opened": opened, "odd": odd, "bytes": b"x", "large": upload, "photo": "https://x/a.png"}
            | {"text": "voice.wav", "options": {"n": [1, None]}}
        )

    assert sent == {
        "audio": f"data:audio/wav;name=a%20voice.wav;base64,{base64_of(b'RIFF')}",
        "opened": f"data:audio/wav;name=a%20voice.wav;base64,{base64_of(b'RIFF')}",
        "odd": f"data:;name=voice.odd-suffix;base64,{base64_of(b'odd')}",
        "bytes": f"data:;base64,{base64_of(b'x')}",
        "large": {"upload_id": "upl_1"},
        "photo": "https://x/a.png",
        "text": "voice.wav",
        "options": {"n": [1, None]},
    }


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".png", ".jpg", ".webp", ".npy", ".npz", ".json", ".txt", ".pdf"])
def test_a_result_gets_the_suffix_whose_media_type_it_has(suffix: str) -> None:
    assert suffix_of(media_type_of(f"name{suffix}")) == suffix
    assert suffix_of(f"{media_type_of(f'data:{suffix}').upper()}; charset=utf-8") == suffix


def test_a_file_of_no_known_type_is_bin_and_a_compressed_one_is_not_what_is_in_it() -> None:
    assert (suffix_of(""), suffix_of("application/x-of-tomorrow"), suffix_of("text/")) == (".bin",) * 3
    assert (media_type_of("a.csv.gz"), media_type_of(""), media_type_of("a")) == ("", "", "")


def test_an_open_file_is_read_from_where_it_stands_and_left_there(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"headbody")
    with (tmp_path / "a.bin").open("rb") as file:
        file.seek(4)
        sent = [members_of({"file": file})["file"] for _ in range(2)]
        announced = File.of(file)

        assert file.tell() == 4
    assert sent == [f"data:application/octet-stream;name=a.bin;base64,{base64_of(b'body')}"] * 2
    assert (announced.size, announced.sha256) == (4, hashlib.sha256(b"body").hexdigest())


def test_files_that_have_no_room_in_a_request_together_are_uploaded() -> None:
    half = bytes(DIRECT_BYTES // 2)

    assert large_files({"a": half, "b": half, "c": b"1", "text": "x" * DIRECT_BYTES}) == {"c": b"1"}
    assert large_files(half + half + b"1").keys() == {"image_url"}
    assert large_files(half + half) == {}


@pytest.mark.parametrize("name", ["", ".", "..", "../a", "/etc/a", "a\\b", "a\0b"])
def test_a_file_of_a_result_never_leads_out_of_its_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(OSError, match="a name that no file can have"):
        place_in(tmp_path, "", name)


@pytest.mark.parametrize("inputs", [{"text": io.StringIO("text")}, {"list": [Path("a")]}, {"array": object()}])
def test_a_member_that_cannot_be_sent_is_a_type_error(inputs: Inputs) -> None:
    with pytest.raises(TypeError):
        members_of(inputs)


@pytest.mark.parametrize("source", [7, None, [b"x"]])
def test_what_is_no_source_is_a_type_error(source: Any) -> None:
    with pytest.raises(TypeError):
        body_of(source, "m", {})


async def test_a_submit_takes_a_source_or_inputs_and_never_both() -> None:
    async with AsyncClient("http://127.0.0.1:9", KEY) as penstock:
        with pytest.raises(TypeError, match="one of source and inputs"):
            await penstock.submit(model="m")
        with pytest.raises(TypeError, match="one of source and inputs"):
            await penstock.submit(b"x", "m", inputs={"text": "hi"})


def test_every_submit_can_be_repeated() -> None:
    bodies = [
        msgspec.json.decode(body_of(b"", "m", options)) for options in ({}, {}, Options(client_request_id="mine"))
    ]
    ids = [body["client_request_id"] for body in bodies]

    assert ids[0] != ids[1]
    assert ids[2] == "mine"


def test_attempts_are_where_the_api_has_them() -> None:
    body = msgspec.json.decode(body_of(b"", "m", {"max_attempts": 2, "priority": "high"}))

    assert (body["retry"], body["priority"]) == ({"max_attempts": 2}, "high")
    assert "max_attempts" not in body


def an_answer(status: int, body: bytes, **headers: str) -> httpx.Response:
    return httpx.Response(status, content=body, headers=headers, request=httpx.Request("GET", "http://gpu.example/x"))


def test_a_refusal_by_a_quota_names_it() -> None:
    body = b'{"detail": "2 wait", "code": "quota_exceeded", "retryable": true, "quota": "tasks_waiting"}'
    error = refusal(an_answer(429, body))

    assert (error.code, error.quota) == ("quota_exceeded", "tasks_waiting")
    assert refusal(an_answer(429, body.replace(b', "quota": "tasks_waiting"', b""))).quota is None


def test_a_problem_document_keeps_all_its_members() -> None:
    body = (
        b'{"type": "urn:x", "title": "Queue full", "status": 503, "detail": "100 wait", "code": "queue_full",'
        b' "param": "model", "retryable": true, "request_id": "r1", "later": 1}'
    )
    error = refusal(an_answer(503, body, **{"Retry-After": "7"}))

    assert (error.code, error.status, error.detail, error.param) == ("queue_full", 503, "100 wait", "model")
    assert (error.request_id, error.retryable, error.retry_after_s) == ("r1", True, 7.0)
    assert str(error) == "queue_full: 100 wait (model)"


@pytest.mark.parametrize(("status", "retryable"), [(502, True), (503, True), (504, True), (404, False), (500, False)])
@pytest.mark.parametrize("body", [b"<html>", b'{"error": 1}', b"\xff", b""])
def test_what_a_proxy_answers_is_an_error_too(status: int, retryable: bool, body: bytes) -> None:
    error = refusal(an_answer(status, body))

    assert (error.code, error.status, error.retryable) == (f"http_{status}", status, retryable)


def test_pauses_grow_are_random_and_begin_after_what_the_server_asks() -> None:
    error = PenstockApiError("", code="store_unavailable", retryable=True)
    asked = PenstockApiError("", code="store_unavailable", retryable=True, retry_after_s=3.0)
    pauses = [[tries.pause_after(error) for _ in range(12)] for tries in (Tries(1000.0), Tries(1000.0))]

    assert pauses[0] != pauses[1]
    for n, pause in enumerate(pauses[0]):
        assert 0 <= pause <= min(CAP_S, BASE_S * 2**n)
    assert Tries(1000.0).pause_after(asked) >= 3.0


def test_nothing_is_tried_again_that_cannot_help_or_comes_too_late() -> None:
    for_ever = PenstockApiError("", code="invalid_request")
    too_late = PenstockApiError("", code="rate_limited", retryable=True, retry_after_s=60.0)

    for error, patience_s in ((for_ever, 1000.0), (too_late, 10.0)):
        with pytest.raises(PenstockApiError) as raised:
            Tries(patience_s).pause_after(error)
        assert raised.value is error


@pytest.mark.parametrize("status", ["FAILED", "CANCELED", "EXPIRED", "A_STATE_OF_TOMORROW"])
def test_whatever_is_not_waiting_or_running_has_ended(status: str) -> None:
    failure = Failure(code="worker_lost", message="gone", retryable=True) if status == "FAILED" else None
    task = Task(
        task_id="t", model="m", status=status, stage="done", priority="normal", created_at="2026-01-01", error=failure
    )
    error = failure_of(task)

    assert task.is_final
    assert error is not None
    assert error.code == ("worker_lost" if failure else status.lower())
    assert error.retryable is (failure is not None)


def test_the_two_clients_can_do_the_same() -> None:
    verbs = [{name for name in dir(client) if not name.startswith("_")} for client in (AsyncClient, Client)]

    assert verbs[0] == verbs[1]


def with_all_its_members() -> PenstockApiError:
    return PenstockApiError(
        "100 wait", code="queue_full", status=503, param="model", request_id="r1", retryable=True, retry_after_s=7.0
    )


@pytest.mark.parametrize("error", [with_all_its_members(), ConfigurationError("no API key"), RuntimeError("closed")])
@pytest.mark.parametrize("travel", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_an_error_arrives_in_another_process_as_it_was(
    error: Exception, travel: Callable[[Exception], Exception]
) -> None:
    error.add_note("while it was raining")
    arrived = travel(error)

    assert type(arrived) is type(error)
    assert (str(arrived), arrived.args, vars(arrived)) == (str(error), error.args, vars(error))


def test_what_became_of_a_source_arrives_in_another_process() -> None:
    mapped = Mapped(source=Path("a.png"), error=with_all_its_members())
    arrived = pickle.loads(pickle.dumps(mapped))

    assert (arrived.source, arrived.error.code, arrived.error.retry_after_s) == (mapped.source, "queue_full", 7.0)


def test_a_url_may_be_of_a_subclass_of_str() -> None:
    class Url(str):
        __slots__ = ()

    assert msgspec.json.decode(body_of(Url("https://x.example/a.png"), "m", {}))["input"] == {
        "image_url": "https://x.example/a.png"
    }


def test_patience_begins_anew_while_bytes_move_until_a_try_has_failed() -> None:
    broken = PenstockApiError("", code="unreachable", retryable=True)
    tries = Tries(1.0)
    time.sleep(1.1)
    tries.moved()

    tries.pause_after(broken)
    time.sleep(1.1)
    tries.moved()
    with pytest.raises(PenstockApiError):
        tries.pause_after(broken)


def test_no_try_may_be_silent_for_longer_than_there_is_patience_left() -> None:
    assert Tries(1000.0).silence_s(30.0) == 30.0
    assert Tries(3.0).silence_s(30.0) == 3.0
    assert Tries(0.0).silence_s(30.0) == LEAST_S

    failed = Tries(10.0)
    failed.pause_after(PenstockApiError("", code="unreachable", retryable=True))
    assert LEAST_S < failed.silence_s(30.0) < 10.0


def test_a_name_in_a_batch_that_is_no_text_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        batch_of({os.fsdecode(b"latin1-\xe9"): "https://x.example/a.png"})
