"""Results of several files over HTTP: how they are listed, downloaded, shared and deleted."""

import asyncio
import base64
from pathlib import Path
from typing import Any

import httpx
import pytest

from penstock.core.task import Outcome, Result
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store
from penstock.store.keys import Keys
from penstock.upkeep.retention import prune
from tests.support.drive import body, claim, complete_with, data_uri, image, nothing_is_stored, stored_objects

pytestmark = pytest.mark.shared_server

CAT = data_uri(image(8, 6))
FILES = {"result.png": b"the picture", "mask.png": b"its mask", "depth.v2.png": b"how far it is"}


async def submitted(client: httpx.AsyncClient, **changes: Any) -> str:
    answer = await client.post("/v1/tasks", json=body(**{"image_url": CAT} | changes))
    assert answer.status_code == 202, answer.text
    return str(answer.headers["Location"])


async def test_a_task_lists_its_files_and_each_can_be_downloaded(
    client: httpx.AsyncClient, store: Store, storage: Storage, server: str
) -> None:
    path = await submitted(client)
    artifacts = await complete_with(store, storage, FILES)

    result = (await client.get(path)).json()["result"]
    downloads = [await client.get(file["url"]) for file in result["files"]]

    assert [file["name"] for file in result["files"]] == list(FILES)
    assert [download.content for download in downloads] == list(FILES.values())
    assert [file["sha256"] for file in result["files"]] == [file.sha256 for file in artifacts]
    assert result["files"][1] == {
        "name": "mask.png",
        "url": f"{server}{path}/result/mask.png",
        "content_type": "image/png",
        "size": len(b"its mask"),
        "sha256": artifacts[1].sha256,
        "width": 32,
        "height": 24,
    }
    assert result["url"] == f"{server}{path}/result"
    assert (result["size"], result["sha256"]) == (artifacts[0].size, artifacts[0].sha256)
    assert (await client.get(f"{path}/result")).content == b"the picture"


async def test_each_file_is_saved_under_a_name_of_its_own(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    path = await submitted(client)
    await complete_with(store, storage, FILES)
    task_id = path.rpartition("/")[2]

    answers = [await client.get(f"{path}/result/{name}") for name in FILES]

    assert [answer.headers["Content-Disposition"] for answer in answers] == [
        f'attachment; filename="{task_id}.png"',
        f'attachment; filename="{task_id}-mask.png"',
        f'attachment; filename="{task_id}-depth.v2.png"',
    ]


async def test_a_file_is_sent_in_parts_and_not_again(client: httpx.AsyncClient, store: Store, storage: Storage) -> None:
    path = f"{await submitted(client)}/result/mask.png"
    await complete_with(store, storage, FILES)

    head = await client.head(path)
    part = await client.get(path, headers={"Range": "bytes=4-"})
    again = await client.get(path, headers={"If-None-Match": head.headers["ETag"]})
    beyond = await client.get(path, headers={"Range": "bytes=8-"})

    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "8", b"")
    assert (part.status_code, part.content, part.headers["Content-Range"]) == (206, b"mask", "bytes 4-7/8")
    assert (again.status_code, again.content) == (304, b"")
    assert (beyond.status_code, beyond.json()["code"]) == (416, "range_not_satisfiable")


@pytest.mark.parametrize(
    "name", ["other.png", "MASK.PNG", "..%2Fmask.png", "%2e%2e", "..%5Cmask.png", "mask.png%00", "%2Fetc%2Fpasswd"]
)
async def test_a_name_that_no_file_has_is_404_whatever_it_says(
    client: httpx.AsyncClient, store: Store, storage: Storage, name: str
) -> None:
    path = await submitted(client)
    await complete_with(store, storage, FILES)

    answer = await client.get(f"{path}/result/{name}")

    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


async def test_a_file_of_a_task_without_a_result_is_409_and_of_none_404(client: httpx.AsyncClient) -> None:
    path = await submitted(client)

    waiting = await client.get(f"{path}/result/mask.png")
    unknown = await client.get("/v1/tasks/tsk_0/result/mask.png")

    assert (waiting.status_code, waiting.json()["code"]) == (409, "result_not_ready")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "task_not_found")


async def test_an_equal_task_shows_all_files_and_keeps_them_when_the_first_is_deleted(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    waits, follows = await submitted(client), await submitted(client)
    await complete_with(store, storage, FILES)
    hit = await submitted(client)
    stored = len(stored_objects(settings))
    await client.delete(waits)

    for path in (follows, hit):
        files = (await client.get(path)).json()["result"]["files"]
        assert [(await client.get(file["url"])).content for file in files] == list(FILES.values())
    assert len(stored_objects(settings)) == stored >= len(FILES)

    for path in (follows, hit):
        await client.delete(path)
    await nothing_is_stored(settings)


@pytest.mark.parametrize("name", FILES)
async def test_an_equal_task_runs_again_when_any_file_of_the_result_is_gone(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings, name: str
) -> None:
    await submitted(client)
    artifacts = {file.name: file for file in await complete_with(store, storage, FILES)}
    await storage.delete(artifacts[name].s3_key)

    again = (await client.get(await submitted(client))).json()

    assert (again["status"], again["reuse"]) == ("PENDING", "miss")


async def test_data_that_looks_like_files_is_data(client: httpx.AsyncClient, store: Store, settings: Settings) -> None:
    """The scripts tell a result with files from one without by its JSON."""
    data = {"artifact": {"s3_key": "x"}, "result": {"artifacts": [{"name": "x"}]}}
    await submitted(client)
    assert await store.leases.complete(await claim(store), Outcome(result=Result(data=data)))

    hit = (await client.get(await submitted(client))).json()

    assert (hit["reuse"], hit["result"]["data"], hit["result"]["files"]) == ("hit", data, [])


async def test_the_manifest_of_a_batch_names_all_files(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    lines = b'{"custom_id": "a", "input": {"image_url": "%s"}}\n' % CAT.encode()
    defaults = {"options": '{"defaults": {"model": "superres-x4"}}'}
    headers = {"Content-Type": "application/jsonl"}
    batch = (await client.post("/v1/batches", content=lines, params=defaults, headers=headers)).json()
    while not (await client.get("/v1/stats")).json()["tasks"]["PENDING"]:
        await asyncio.sleep(0.02)
    await complete_with(store, storage, FILES)

    manifest = (await client.get(f"/v1/batches/{batch['batch_id']}/results")).json()

    assert [file["name"] for file in manifest["result"]["files"]] == list(FILES)
    assert [(await client.get(file["url"])).content for file in manifest["result"]["files"]] == list(FILES.values())


async def test_deleting_a_task_deletes_all_files(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    path = await submitted(client)
    await complete_with(store, storage, FILES)
    assert [Path(key).name.partition("-")[0] for key in stored_objects(settings)] == ["1"] * len(FILES)

    await client.delete(path)

    assert stored_objects(settings) == []


async def test_all_files_go_with_the_last_task_whose_retention_is_over(
    client: httpx.AsyncClient, store: Store, storage: Storage, settings: Settings
) -> None:
    first = await submitted(client)
    await complete_with(store, storage, FILES)
    hit = await submitted(client)
    finals = Keys(settings.redis.namespace).finals

    for path, left in ((first, len(FILES)), (hit, 0)):
        await store.engine.pipelined([("ZADD", finals, 1, path.rpartition("/")[2])])
        await prune(store, storage)
        assert len(stored_objects(settings)) == left


async def test_a_prediction_has_a_list_of_its_files_each_with_a_url_that_needs_no_key(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    task_id = (await submitted(client)).rpartition("/")[2]
    large = {"result.png": b"p" * 600_000, "mask.png": b"m" * 600_000}
    await complete_with(store, storage, large)

    output = (await client.get(f"/replicate/v1/predictions/{task_id}")).json()["output"]
    downloads = [await stranger.get(url) for url in output]
    other = await stranger.get(output[1].replace("mask", "other"))

    assert [download.content for download in downloads] == list(large.values())
    assert [url.partition("?")[0].rpartition("/")[2] for url in output] == [f"{task_id}.png", f"{task_id}-mask.png"]
    assert (other.status_code, other.json()["code"]) == (404, "task_not_found")


async def test_the_url_of_an_output_opens_no_other_task_and_no_form_but_its_own(
    client: httpx.AsyncClient, stranger: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    ids, urls = [], []
    for _ in range(2):
        ids.append((await submitted(client, reuse=False)).rpartition("/")[2])
        await complete_with(store, storage, {"result.png": b"p" * 600_000, "mask.png": b"m" * 600_000})
        urls.append((await client.get(f"/replicate/v1/predictions/{ids[-1]}")).json()["output"][0])
    mine, others = urls
    place, _, token = mine.partition("?token=")
    signature, _, tenant = token.partition(".")
    changed = ("A" if signature[0] != "A" else "B") + signature[1:]
    wrong = ["", changed, f"{changed}.{tenant}", f"{signature}.other", signature, f"{token}.", f"{token}%00"]

    answers = [await stranger.get(f"{place}?token={one}") for one in wrong]
    answers += [await stranger.get(place), await stranger.get(f"{others.partition('?')[0]}?token={token}")]
    elsewhere = await stranger.get(f"/v1/tasks/{ids[0]}?token={token}")

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(404, "task_not_found")}
    assert elsewhere.status_code == 401
    assert (await stranger.get(mine)).content == b"p" * 600_000


async def test_small_files_are_in_the_prediction_itself(
    client: httpx.AsyncClient, store: Store, storage: Storage
) -> None:
    task_id = (await submitted(client)).rpartition("/")[2]
    await complete_with(store, storage, FILES)

    output = (await client.get(f"/replicate/v1/predictions/{task_id}")).json()["output"]

    assert [base64.b64decode(uri.removeprefix("data:image/png;base64,")) for uri in output] == list(FILES.values())
