"""What the API says of itself: the OpenAPI document, and the page that shows it."""

import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import msgspec
import pytest
from PIL import Image

from penstock.api.app import openapi_document
from penstock.api.description.components import wire_types
from penstock.api.description.examples.parameters import IMAGE
from penstock.api.description.examples.requests import by_type
from penstock.errors import codes
from penstock.intake.call import DURATION_PATTERN, KEY_PATTERN
from tests.support.drive import MODEL, body
from tests.support.published import models_of

pytestmark = pytest.mark.shared_server

BY_URL = ("sendUpload", "getPredictionOutput")
COMMITTED = Path(__file__).parents[2] / "docs" / "openapi.json"


@pytest.fixture
async def document(stranger: httpx.AsyncClient) -> dict[str, Any]:
    answer = await stranger.get("/schema/openapi.json")
    assert answer.text == openapi_document(models_of())
    assert (await stranger.get("/schema")).content == answer.content
    return dict(answer.json())


def operations(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, operation) for path, item in document["paths"].items() for operation in item.values()]


def references(node: Any) -> list[str]:
    if isinstance(node, list):
        return [found for entry in node for found in references(entry)]
    if not isinstance(node, dict):
        return []
    return [found for entry in node.values() for found in references(entry)] + [
        value for key, value in node.items() if key == "$ref"
    ]


def answers(document: dict[str, Any], media_type: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Operation, status and content of every answer in this media type."""
    return [
        (operation["operationId"], status, response["content"][media_type])
        for _, operation in operations(document)
        for status, response in operation["responses"].items()
        if media_type in response.get("content", {})
    ]


def test_the_committed_document_is_the_one_that_is_served() -> None:
    command = [sys.executable, "-m", "penstock", "openapi"]

    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert printed == COMMITTED.read_text(), "the API has changed: run `just openapi` and commit docs/openapi.json"


async def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]

    assert document["openapi"].startswith("3.1")
    assert len(set(names)) == len(names) == 76


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "examples", "links")
        for name in document["components"][kind]
    }

    assert set(references(document)) <= known


async def test_every_answer_about_a_task_leads_to_all_that_can_be_done_with_it(document: dict[str, Any]) -> None:
    about_a_task = {operation["operationId"] for path, operation in operations(document) if "{task_id}" in path}
    submit = document["paths"]["/v1/tasks"]["post"]["responses"]["202"]

    assert submit["links"].keys() == about_a_task
    assert document["paths"]["/v1/tasks/{task_id}"]["get"]["responses"]["200"]["links"] == submit["links"]
    for name, link in document["components"]["links"].items():
        assert link["operationId"] == name


async def test_every_operation_lists_its_problems_with_an_example_of_each(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        problems = {status: r for status, r in operation["responses"].items() if status >= "400"}
        assert problems, path
        for status, response in problems.items():
            content = response["content"]["application/problem+json"]
            assert content["schema"] == {"$ref": "#/components/schemas/Problem"}
            assert response["content"].keys() == {"application/problem+json"}
            assert response["description"].split(", ") == list(content["examples"])
            assert {str(codes()[code].status) for code in content["examples"]} == {status}
        assert ("401" in problems) == ("/v1/" in path and operation["operationId"] not in BY_URL)
        assert (operation["security"] != []) == ("/v1/" in path)


async def test_every_answer_has_an_example_that_is_one(document: dict[str, Any]) -> None:
    found = answers(document, "application/json")

    assert len(found) >= 15
    for operation, status, content in found:
        names = [reference.rpartition("/")[2] for reference in references(content["schema"])]
        shown = content.get("examples") or {name: {"value": content["example"]} for name in names or [""]}
        assert list(shown) == (names or [""]), f"{operation} {status}: add {names} to api/description/examples"
        for name in names:
            msgspec.convert(shown[name]["value"], wire_types()[name])


def test_every_example_of_a_request_is_one() -> None:
    for name, content in by_type(models_of()).items():
        shown = [content["example"]] if "example" in content else [e["value"] for e in content["examples"].values()]
        assert shown
        for example in shown:
            msgspec.json.decode(msgspec.json.encode(example), type=wire_types()[name])


async def test_the_examples_in_text_are_what_their_media_types_say(document: dict[str, Any]) -> None:
    ended = document["paths"]["/v1/batches/{batch_id}/results"]["get"]["responses"]["200"]["content"]
    watched = document["paths"]["/v1/tasks/{task_id}/events"]["get"]["responses"]["200"]["content"]

    for content in ended.values():
        msgspec.json.Decoder(wire_types()["LineView"]).decode_lines(content["example"])
    (data,) = re.findall(r"^data: (.*)$", watched["text/event-stream"]["example"], re.MULTILINE)
    msgspec.json.decode(data, type=wire_types()["ProgressView"])


async def test_an_example_of_a_submit_is_taken(document: dict[str, Any], client: httpx.AsyncClient) -> None:
    content = document["paths"]["/v1/tasks"]["post"]["requestBody"]["content"]["application/json"]

    for name, example in content["examples"].items():
        answer = await client.post("/v1/tasks", json=example["value"])
        assert (answer.status_code, example["value"]["model"]) == (202, name)


async def test_an_example_of_a_prediction_is_taken(document: dict[str, Any], client: httpx.AsyncClient) -> None:
    content = document["paths"]["/replicate/v1/predictions"]["post"]["requestBody"]["content"]["application/json"]

    answer = await client.post("/replicate/v1/predictions", json=content["example"])

    assert answer.status_code == 201, answer.text


def test_the_examples_have_a_picture_that_can_be_decoded() -> None:
    picture = Image.open(io.BytesIO(base64.b64decode(IMAGE.partition(",")[2])))

    assert picture.convert("RGB").size == (16, 16)


async def test_an_example_of_a_batch_is_taken(document: dict[str, Any], client: httpx.AsyncClient) -> None:
    content = document["paths"]["/v1/batches"]["post"]["requestBody"]["content"]

    for media_type, of_type in content.items():
        example = of_type["example"]
        sent = example if isinstance(example, str) else json.dumps(example)
        answer = await client.post("/v1/batches", content=sent, headers={"content-type": media_type})
        assert answer.status_code == 202, media_type


@pytest.mark.parametrize(
    ("pattern", "taken", "refused"),
    [
        (KEY_PATTERN, ["order-991", '"order-991"', '"a\\\\b"', "~"], ["", '""', "a b", '"a', "ä", "a" * 129]),
        (DURATION_PATTERN, ["90", "90s", "5m", "1h30m", "1h30m15s", "2h"], ["", "s", "5m1h", "-5", "5 m", "1.5h"]),
    ],
)
async def test_the_patterns_of_headers_are_what_is_understood(
    client: httpx.AsyncClient, document: dict[str, Any], pattern: str, taken: list[str], refused: list[str]
) -> None:
    parameters = document["paths"]["/v1/tasks"]["post"]["parameters"]
    (header,) = (p["name"] for p in parameters if p["schema"].get("pattern") == pattern)

    for value, good in [(v, True) for v in taken] + [(v, False) for v in refused]:
        answer = await client.post("/v1/tasks", json=body(), headers={header: value.encode()})
        assert (re.search(pattern, value) is not None, answer.status_code < 300) == (good, good), value


async def test_options_name_every_method_of_a_path(client: httpx.AsyncClient, document: dict[str, Any]) -> None:
    for path, item in document["paths"].items():
        answer = await client.options(path.replace("{", "").replace("}", ""))
        methods = {*map(str.upper, item), "OPTIONS"} | ({"HEAD"} if "get" in item else set())
        assert answer.headers["Allow"].split(", ") == sorted(methods), path


async def test_request_bodies_are_closed(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    for name in ("SuperresX4Request", "InputRequest", "OutputRequest", "RetryRequest", "SuperresParams"):
        assert schemas[name]["additionalProperties"] is False, name
    assert document["components"]["securitySchemes"].keys() == {
        "apiKey", "bearer", "uploadToken", "taskToken", "outputToken",
    }  # fmt: skip


async def test_no_member_is_null_and_nothing_else(document: dict[str, Any]) -> None:
    """openapi-generator makes no client of a document with one."""
    for name, schema in document["components"]["schemas"].items():
        assert {"type": "null"} not in schema.get("properties", {}).values(), name


async def test_the_model_of_a_submit_decides_what_its_params_are(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    chosen = schemas["TaskRequest"]["discriminator"]

    assert chosen["propertyName"] == "model"
    assert chosen["mapping"].keys() >= {MODEL, "image-scoring-v1"}
    assert [choice["$ref"] for choice in schemas["TaskRequest"]["oneOf"]] == list(chosen["mapping"].values())
    for model, reference in chosen["mapping"].items():
        assert schemas[reference.rpartition("/")[2]]["properties"]["model"]["const"] == model
    assert schemas["SuperresX4Request"]["properties"]["params"]["anyOf"][0]["$ref"].endswith("/SuperresParams")
    assert schemas["ImageScoringV1Request"]["properties"]["params"]["anyOf"][0]["$ref"].endswith("/ScoringParams")


async def test_ht5_the_documentation_leaves_no_key_in_the_browser(stranger: httpx.AsyncClient) -> None:
    script = (await stranger.get("/docs/start.js")).text

    assert "persistAuthorization: false" in script
    assert 'localStorage.removeItem("authorized")' in script


async def test_the_documentation_needs_nothing_from_elsewhere(stranger: httpx.AsyncClient, server: str) -> None:
    page = await stranger.get("/docs")

    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert page.headers["Content-Type"].startswith("text/html")
    assert len(links) == 5
    assert policy["script-src"] == "'self'"
    assert "<script>" not in page.text
    for link in links:
        target = urljoin(f"{server}/docs", link)
        answer = await stranger.get(target)
        assert urlsplit(target).netloc == urlsplit(server).netloc
        assert (answer.status_code, len(answer.content) > 100) == (200, True)
