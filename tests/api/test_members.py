"""The members of a model's input over HTTP: what is taken, what is refused and by which name, and what is shared."""

import io
import json
import time
import wave
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from penstock.core.request import Source
from penstock.core.task import Outcome, Result
from penstock.settings import LimitSettings, ModelSettings, QueueSettings, Settings
from penstock.store import Store, UploadStore
from tests.support.drive import data_uri, image, stored_objects
from tests.support.member_models import ANYTHING, MASKED, SPEECH
from tests.support.stores import lease_of

pytestmark = pytest.mark.shared_server

LIMITS = LimitSettings(
    max_body_bytes=400_000, max_input_bytes=50_000, max_inputs_bytes=80_000, max_json_bytes=20_000,
    max_image_megapixels=1,
)  # fmt: skip
URL = "https://files.example.com/a.wav"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """With the models of these tests, and small limits. Redis keeps one long member, but no two."""
    models = ModelSettings(modules=("tests.support.member_models",))
    return msgspec.structs.replace(
        settings, limits=LIMITS, models=models, queue=QueueSettings(inline_input_bytes=10_000)
    )


def wav(seconds: float = 0.01) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1), sound.setsampwidth(1), sound.setframerate(8_000)
        sound.writeframes(bytes(int(8_000 * seconds)))
    return file.getvalue()


def speech(**members: Any) -> dict[str, Any]:
    return {"model": SPEECH, "input": {"audio": data_uri(wav(), "audio/wav"), "text": "hello"} | members}


async def uploaded(client: httpx.AsyncClient, data: bytes, content_type: str = "audio/wav") -> str:
    asked = {"size": len(data), "content_type": content_type, "name": "../b.wav"}
    opened = (await client.post("/v1/uploads", json=asked)).json()
    sent = await client.put(opened["url"], content=data, headers=opened["headers"])
    assert sent.status_code == 200, sent.text
    return str(opened["upload_id"])


async def inputs_of(store: Store, answer: httpx.Response) -> dict[str, Source]:
    """Returns the inputs in the record of the task that was submitted."""
    assert answer.status_code == 202, answer.text
    return (await store.tasks.get(answer.json()["task_id"], "default")).request.inputs


# --- taken ----------------------------------------------------------------------------------------------------


async def test_each_member_is_kept_where_it_is(client: httpx.AsyncClient, store: Store) -> None:
    options = {"words": ["a", None], "speed": None, "gain": 0.5}
    upload_id = await uploaded(client, wav())

    by_upload = await inputs_of(
        store, await client.post("/v1/tasks", json=speech(audio={"upload_id": upload_id}, options=options))
    )
    by_url = await inputs_of(store, await client.post("/v1/tasks", json=speech(audio=URL)))
    named = data_uri(wav(), "audio/wav;name=a%20b.wav")
    inline = await inputs_of(store, await client.post("/v1/tasks", json=speech(audio=named)))

    assert (by_upload["audio"].upload, by_upload["audio"].content_type) == (upload_id, "audio/wav")
    assert by_upload["audio"].name == "b.wav"
    assert (await client.get(f"/v1/uploads/{upload_id}")).json()["name"] == "b.wav"
    assert by_upload["options"] == Source(value=options), "with the nulls that are in it"
    assert by_url == {"audio": Source(url=URL), "text": Source(value="hello")}
    assert inline["audio"] == Source(data=wav(), content_type="audio/wav", name="a b.wav")


async def test_what_is_too_large_for_the_record_is_stored_beside_each_other(
    client: httpx.AsyncClient, store: Store, settings: Settings
) -> None:
    sent = speech(audio=data_uri(wav(1), "audio/wav"), text="x" * 10_000)

    inputs = await inputs_of(store, await client.post("/v1/tasks", json=sent | {"reuse": False}))

    assert stored_objects(settings) == sorted(str(source.key) for source in inputs.values())
    assert {str(source.key).rpartition("/")[2] for source in inputs.values()} == {"0", "1"}


async def test_a_model_with_two_images_takes_both(client: httpx.AsyncClient, store: Store) -> None:
    photo, mask = data_uri(image(6, 4)), data_uri(image(3, 2))

    answer = await client.post("/v1/tasks", json={"model": MASKED, "input": {"image": photo, "mask": mask}})

    assert [*await inputs_of(store, answer)] == ["image", "mask"]
    quoted = await client.post("/v1/tasks/quote", json={"model": MASKED, "input": {"image": photo, "mask": mask}})
    assert quoted.json()["input"] == {"width": 6, "height": 4}


async def test_one_upload_may_be_two_members(client: httpx.AsyncClient, store: Store, uploads: UploadStore) -> None:
    upload_id = await uploaded(client, image(), "image/png")
    both = {"image": {"upload_id": upload_id}, "mask": {"upload_id": upload_id}}

    answer = await client.post("/v1/tasks", json={"model": MASKED, "input": both})

    assert [source.upload for source in (await inputs_of(store, answer)).values()] == [upload_id] * 2
    assert (await client.get(f"/v1/uploads/{upload_id}")).json()["tasks"] == 1


async def test_an_image_may_be_named_as_its_member_too(client: httpx.AsyncClient, store: Store) -> None:
    photo = data_uri(image())
    old = await client.post("/v1/tasks", json={"model": "image-scoring-v1", "input": {"image_url": photo}})
    new = await client.post("/v1/tasks", json={"model": "image-scoring-v1", "input": {"image": photo}})

    assert await inputs_of(store, old) == await inputs_of(store, new) == {"image": Source(data=image())}


async def test_a_model_whose_members_are_all_optional_takes_none(client: httpx.AsyncClient, store: Store) -> None:
    assert await inputs_of(store, await client.post("/v1/tasks", json={"model": ANYTHING, "input": {}})) == {}


# --- refused --------------------------------------------------------------------------------------------------

PNG, WAV = data_uri(image()), data_uri(wav(), "audio/wav")
DEEP = json.loads("[" * 150 + "]" * 150)

REFUSED: dict[str, tuple[dict[str, Any], int, str, str]] = {
    "nothing": ({"model": SPEECH, "input": {}}, 422, "invalid_request", "input.audio"),
    "a list": ({"model": SPEECH, "input": []}, 422, "invalid_request", "input"),
    "no text": ({"model": SPEECH, "input": {"audio": WAV}}, 422, "invalid_request", "input.text"),
    "a text that is null": (speech(text=None), 422, "invalid_request", "input.text"),
    "an unknown member": (speech(speed=2), 422, "invalid_request", "input.speed"),
    "an image where none is taken": (speech(image_url=PNG), 422, "invalid_request", "input.image_url"),
    "a number as a file": (speech(audio=7), 422, "invalid_request", "input.audio"),
    "an empty URL": (speech(audio=""), 422, "invalid_request", "input.audio"),
    "an upload of no form": (speech(audio={"upload_id": "x"}), 422, "invalid_request", "input.audio.upload_id"),
    "an upload that is not there": (
        speech(audio={"upload_id": "upl_" + "0" * 32}), 404, "upload_not_found", "input.audio",
    ),
    "a place that is not allowed": (speech(audio="http://127.0.0.1/a"), 422, "input_url_blocked", "input.audio"),
    "bare base64": (speech(audio="UklGR" + "A" * 80), 422, "invalid_request", "input.audio"),
    "bytes of another type": (speech(audio=PNG), 415, "unsupported_media_type", "input.audio"),
    "a declared type": (speech(audio=data_uri(b"a,b", "text/csv")), 415, "unsupported_media_type", "input.audio"),
    "a file that is too large": (
        speech(audio=data_uri(wav(7), "audio/wav")), 413, "input_too_large", "input.audio",
    ),
    "a value of another type": (speech(text=7), 422, "invalid_request", "input.text"),
    "a text that is too short": (speech(text=""), 422, "invalid_request", "input.text"),
    "a place inside of JSON": (speech(options={"words": ["a", 7]}), 422, "invalid_request", "input.options.words[1]"),
    "a member inside of JSON": (speech(options={"speed": "x"}), 422, "invalid_request", "input.options.speed"),
    "JSON that is too long": (speech(text="x" * 20_001), 413, "input_too_large", "input.text"),
    "JSON that is too deep": ({"model": ANYTHING, "input": {"json": DEEP}}, 422, "invalid_request", "input.json"),
    "a mask that is no image": (
        {"model": MASKED, "input": {"image": PNG, "mask": WAV}}, 415, "unsupported_image_format", "input.mask",
    ),
    "a mask that is too large": (
        {"model": MASKED, "input": {"image": PNG, "mask": data_uri(image(1001, 1000))}},
        422, "image_too_large", "input.mask",
    ),
    "the short form of one image for two": (
        {"model": MASKED, "input": {"image_url": PNG}}, 422, "invalid_request", "input.image_url",
    ),
    "files that are too large together": (
        {"model": ANYTHING, "input": {name: data_uri(bytes(45_000), "") for name in ("first", "second")}},
        413, "input_too_large", "input.second",
    ),
    "both forms of one image": (
        {"model": "image-scoring-v1", "input": {"image": PNG, "image_url": PNG}},
        422, "invalid_request", "input.image_url",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
async def test_a_submit_is_refused_by_the_member_for(
    client: httpx.AsyncClient, settings: Settings, store: Store, what: str
) -> None:
    sent, status, code, param = REFUSED[what]

    answer = await client.post("/v1/tasks", json=sent)

    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["param"]) == (status, code, param), problem
    assert stored_objects(settings) == []
    assert (await store.listing.page("default")).tasks == ()


async def test_an_upload_is_held_to_the_types_and_the_size_of_its_member(client: httpx.AsyncClient) -> None:
    picture = await uploaded(client, image(), "audio/wav")
    table = await uploaded(client, b"a,b", "text/csv")
    large = await uploaded(client, wav(7))

    answers = [await client.post("/v1/tasks", json=speech(audio={"upload_id": one})) for one in (picture, table, large)]

    assert [(answer.json()["code"], answer.json()["param"]) for answer in answers] == [
        ("unsupported_media_type", "input.audio"),
        ("unsupported_media_type", "input.audio"),
        ("input_too_large", "input.audio"),
    ]


async def test_an_upload_that_was_deleted_is_refused_by_its_member(client: httpx.AsyncClient) -> None:
    kept, deleted = await uploaded(client, image(), "image/png"), await uploaded(client, image(), "image/png")
    await client.delete(f"/v1/uploads/{deleted}")
    both = {"image": {"upload_id": kept}, "mask": {"upload_id": deleted}}

    answer = await client.post("/v1/tasks", json={"model": MASKED, "input": both})

    assert (answer.json()["code"], answer.json()["param"]) == ("upload_not_found", "input.mask")


NAMES = st.sampled_from(
    ("image", "mask", "audio", "text", "options", "first", "json", "image_url", "upload_id", "words", "", "é")
)
URIS = st.sampled_from((PNG, WAV, URL, "data:", "data:,", "data:;base64,AAAA", "s3://b/k", "x:", "upl_" + "0" * 32))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=30) | URIS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
INPUTS = st.dictionaries(NAMES, VALUES, max_size=5) | VALUES


@pytest.fixture
def caller(server: str, api_key: str) -> Iterator[httpx.Client]:
    """One connection for all examples."""
    headers = {"X-API-Key": api_key}
    with httpx.Client(base_url=server, headers=headers, timeout=60, verify=False, trust_env=False) as opened:
        yield opened


@pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")  # the server's thread does
@examples(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(sent=INPUTS, model=st.sampled_from((SPEECH, MASKED, ANYTHING, "image-scoring-v1")))
def test_an_odd_input_is_taken_or_refused_with_a_reason(caller: httpx.Client, sent: Any, model: str) -> None:
    text = json.dumps({"model": model, "input": sent})

    answer = caller.post("/v1/tasks", content=text, headers={"Content-Type": "application/json"})

    assert answer.status_code in (202, 400, 404, 413, 415, 422), (text, answer.text)
    if answer.status_code != 202:
        assert (answer.status_code == 400) or str(answer.json()["param"]).startswith("input"), (text, answer.text)


# --- shared, repeated ------------------------------------------------------------------------------------------


async def finish(store: Store) -> None:
    """Ends the next task with a result."""
    await store.leases.complete(await lease_of(store, models=[SPEECH]), Outcome(result=Result(data={"heard": 1})))


@pytest.mark.parametrize(
    ("changed", "reuse"),
    [
        ({}, "hit"),
        ({"text": "bye"}, "miss"),
        ({"audio": data_uri(wav(0.02), "audio/wav")}, "miss"),
        ({"audio": data_uri(wav(), "audio/wav;name=b.wav")}, "miss"),  # the model sees the name
        ({"options": {}}, "miss"),
    ],
)
async def test_tasks_share_a_result_when_all_their_members_are_equal(
    client: httpx.AsyncClient, store: Store, changed: dict[str, Any], reuse: str
) -> None:
    await client.post("/v1/tasks", json=speech())
    await finish(store)

    answer = await client.post("/v1/tasks", json=speech(**changed))

    view = (await client.get(answer.headers["Location"])).json()
    assert view["reuse"] == reuse


async def test_a_task_with_a_url_among_its_members_shares_nothing(client: httpx.AsyncClient, store: Store) -> None:
    await client.post("/v1/tasks", json=speech(audio=URL))
    await finish(store)

    answer = await client.post("/v1/tasks", json=speech(audio=URL))

    assert (await client.get(answer.headers["Location"])).json()["reuse"] == "miss"


async def test_the_same_request_id_with_another_member_is_another_body(client: httpx.AsyncClient) -> None:
    upload_id = await uploaded(client, wav())
    sent = speech(audio={"upload_id": upload_id}) | {"client_request_id": "order-1"}
    first = await client.post("/v1/tasks", json=sent)
    again = await uploaded(client, wav())

    same = await client.post("/v1/tasks", json=sent | {"input": sent["input"] | {"audio": {"upload_id": again}}})
    other = await client.post("/v1/tasks", json=sent | {"input": sent["input"] | {"text": "bye"}})

    assert same.json()["task_id"] == first.json()["task_id"], "the bytes are the same"
    assert other.json()["code"] == "idempotency_mismatch"


# --- batches and predictions ------------------------------------------------------------------------------------


async def tasks_of(client: httpx.AsyncClient, batch: httpx.Response, count: int) -> list[str]:
    """Returns the ids of the tasks of a batch, when there are so many."""
    assert batch.status_code == 202, batch.text
    give_up = time.monotonic() + 60
    while time.monotonic() < give_up:
        listed = (await client.get("/v1/tasks", params={"batch_id": batch.json()["batch_id"]})).json()["data"]
        if len(listed) == count:
            return [task["task_id"] for task in listed]
    raise AssertionError(listed)


@pytest.mark.parametrize("form", ["json", "jsonl"])
async def test_lines_have_members_their_own_or_of_the_defaults(
    client: httpx.AsyncClient, store: Store, settings: Settings, form: str
) -> None:
    long = speech(audio=data_uri(wav(1), "audio/wav"), text="y" * 10_000)["input"]
    lines = [
        {"custom_id": "own", "input": long},
        {"custom_id": "of the defaults"},
        {"custom_id": "url", "input": {"audio": URL, "text": "t", "options": {"words": [None]}}},
    ]
    options = {"defaults": {"model": SPEECH, "input": speech()["input"]}}
    if form == "json":
        batch = await client.post("/v1/batches", json=options | {"lines": lines})
    else:
        rows = "\n".join(map(json.dumps, lines))
        headers = {"Content-Type": "application/jsonl"}
        params = {"options": json.dumps(options)}
        batch = await client.post("/v1/batches", params=params, content=rows, headers=headers)

    found = [await store.tasks.get(task_id, "default") for task_id in await tasks_of(client, batch, 3)]
    inputs = {task.request.line.custom_id: task.request.inputs for task in found if task.request.line}

    assert inputs["of the defaults"]["text"] == Source(value="hello")
    assert inputs["url"] == {
        "audio": Source(url=URL),
        "text": Source(value="t"),
        "options": Source(value={"words": [None]}),
    }
    keys = sorted(str(source.key) for source in inputs["own"].values())
    assert [key for key in stored_objects(settings) if key.startswith("inputs/")] == keys


async def test_wrong_lines_name_their_members(client: httpx.AsyncClient) -> None:
    lines = [
        {"custom_id": "1", **speech(audio=PNG)},
        {"custom_id": "2", **speech(text=7)},
        {"custom_id": "3", **speech(options={"words": 1})},
        {"custom_id": "4", "model": MASKED, "input": {"image": PNG, "mask": data_uri(wav(1))}},
        {"custom_id": "5", **speech()},
    ]

    answer = await client.post("/v1/batches", json={"lines": lines})

    assert answer.status_code == 422
    assert [(error["line"], error["param"], error["code"]) for error in answer.json()["errors"]] == [
        (1, "input.audio", "unsupported_media_type"),
        (2, "input.text", "invalid_request"),
        (3, "input.options.words", "invalid_request"),
        (4, "input.mask", "unsupported_image_format"),
    ]


async def test_a_prediction_has_members_and_params_side_by_side(client: httpx.AsyncClient, store: Store) -> None:
    form = {"content": ("a.wav", wav(), "audio/wav")}
    file = (await client.post("/replicate/v1/files", files=form)).json()
    sent = {"audio": file["urls"]["get"], "text": "hello", "strength": 0.5, "options": {"gain": None}}

    answer = await client.post("/replicate/v1/predictions", json={"version": SPEECH, "input": sent})

    assert answer.status_code == 201, answer.text
    request = (await store.tasks.get(answer.json()["id"], "default")).request
    assert (request.inputs["audio"].upload, request.inputs["audio"].name) == (file["id"], "a.wav")
    assert request.inputs["options"] == Source(value={"gain": None})
    assert request.params == {"strength": 0.5}
    assert answer.json()["input"] == sent


async def test_the_name_of_an_image_changes_no_result(client: httpx.AsyncClient, store: Store) -> None:
    predictions = []
    for name in ("a.png", "b.png"):
        form = {"content": (name, image(), "image/png")}
        file = (await client.post("/replicate/v1/files", files=form)).json()
        sent = {"version": "image-scoring-v1", "input": {"image": file["urls"]["get"]}}
        predictions.append((await client.post("/replicate/v1/predictions", json=sent)).json()["id"])
        if len(predictions) == 1:
            lease = await lease_of(store, models=["image-scoring-v1"])
            await store.leases.complete(lease, Outcome(result=Result(data={"score": 5.0})))

    assert [(await store.tasks.get(one, "default")).reuse for one in predictions] == ["miss", "hit"]


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        ({"text": "hello"}, "input.audio"),
        ({"audio": PNG, "text": "hello"}, "input.audio"),
        ({"audio": URL, "text": 7}, "input.text"),
        ({"audio": URL, "text": "a", "strength": "x"}, "input.strength"),
    ],
)
async def test_what_is_wrong_with_a_prediction_names_the_member(
    client: httpx.AsyncClient, sent: dict[str, Any], param: str
) -> None:
    answer = await client.post("/replicate/v1/predictions", json={"version": SPEECH, "input": sent})

    assert answer.status_code in (415, 422)
    assert answer.json()["param"] == param


async def test_a_prediction_of_two_images_names_each(client: httpx.AsyncClient, store: Store) -> None:
    sent = {"image": PNG, "mask": PNG}

    answer = await client.post("/replicate/v1/predictions", json={"version": MASKED, "input": sent})

    request = (await store.tasks.get(answer.json()["id"], "default")).request
    assert request.inputs == {"image": Source(data=image()), "mask": Source(data=image())}
