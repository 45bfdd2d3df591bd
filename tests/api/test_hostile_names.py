"""Names that clients make up: of files, tasks, models and requests."""

import json
import re
from pathlib import Path

import httpx
import pytest
import redis

from tests.support.drive import body

pytestmark = pytest.mark.shared_server

ROOT = Path(__file__).parents[2]
MARK = "swordfish"

FILE_NAMES = [
    f"../../{MARK}",
    f"/etc/{MARK}",
    f"..\\..\\{MARK}",
    f"{MARK}\x00.png",
    MARK * 100,
    f"\u202egnp.{MARK}",
    "CON",
    "..",
]


@pytest.mark.parametrize("name", FILE_NAMES, ids=lambda name: ascii(name)[:20])
async def test_up8_the_name_of_a_file_is_short_text_and_no_part_of_a_path(
    client: httpx.AsyncClient, objects: Path, name: str
) -> None:
    answer = await client.post("/replicate/v1/files", files={"content": (name, b"some bytes", "text/plain")})
    stored = [file.relative_to(objects).as_posix() for file in objects.rglob("*") if file.is_file()]

    assert answer.status_code == 201, answer.text
    assert len(answer.json()["name"]) <= 255
    assert any(file.endswith(answer.json()["id"]) or answer.json()["id"] in file for file in stored)
    assert [file for file in stored if not re.fullmatch(r"[\w./-]+", file) or MARK in file or "CON" in file] == []


IDS = [f"{MARK}*", "*", f"tsk_{{{MARK}}}", f"tsk_{MARK}:y", f"tsk_{MARK}%0Ay", MARK * 1000, f"%2e%2e%2f{MARK}"]


@pytest.mark.parametrize("id_", IDS, ids=lambda id_: id_[:20])
async def test_re3_no_made_up_id_finds_anything_or_becomes_a_key(
    client: httpx.AsyncClient, redis_url: str, namespace: str, id_: str
) -> None:
    known = (await client.post("/v1/tasks", json=body(client_request_id=f"{MARK}*{{}}:"))).json()["task_id"]
    paths = (f"/v1/tasks/{id_}", f"/v1/tasks/{id_}/events", f"/v1/batches/{id_}", f"/v1/uploads/{id_}")
    answers = [await client.get(path) for path in paths]
    answers += [await client.delete(f"/v1/tasks/{id_}"), await client.post(f"/v1/tasks/{id_}/cancel")]
    answers += [await client.post("/v1/tasks", json=body(model=id_))]

    assert {answer.status_code for answer in answers} <= {404, 422}
    assert (await client.get(f"/v1/tasks/{known}")).json()["status"] == "PENDING"
    with redis.Redis.from_url(redis_url) as connection:
        keys = list(connection.scan_iter(f"*{namespace}*", count=10_000))
    assert len(keys) > 3
    assert [key for key in keys if MARK.encode() in key] == []


def test_mo3_no_request_names_the_file_the_path_or_the_url_of_a_model() -> None:
    document = json.loads((ROOT / "docs" / "openapi.json").read_text())
    taken = {
        f"{method} {path}": sorted(properties_of(operation, document))
        for path, item in document["paths"].items()
        if path.startswith(("/v1/models", "/replicate/v1/models"))
        for method, operation in item.items()
        if "requestBody" in operation and not path.endswith("/predictions")
    }

    assert taken == {"put /v1/models/{name}/default": ["version"]}


def properties_of(operation: dict[str, dict[str, object]], document: dict[str, dict[str, object]]) -> set[str]:
    reference = re.findall(r"#/components/schemas/(\w+)", json.dumps(operation["requestBody"]))
    schemas = json.loads(json.dumps(document["components"]["schemas"]))
    return {name for schema in reference for name in schemas[schema]["properties"]}
