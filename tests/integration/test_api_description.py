"""What the API says of itself: the OpenAPI document, and the page that shows it."""

import re
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

from penstock.api.app import openapi_document
from tests.integration.drive import MODEL


@pytest.fixture
async def document(stranger: httpx.AsyncClient) -> dict[str, Any]:
    answer = await stranger.get("/schema/openapi.json")
    assert answer.text == openapi_document()
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


async def test_every_operation_has_a_name_of_its_own(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, operation in operations(document)]

    assert document["openapi"].startswith("3.1")
    assert len(set(names)) == len(names) == 21


async def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}

    assert set(references(document)) <= known


async def test_every_operation_lists_its_problems(document: dict[str, Any]) -> None:
    for path, operation in operations(document):
        problems = {status: r for status, r in operation["responses"].items() if status >= "400"}
        assert problems, path
        for response in problems.values():
            assert response["content"] == {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
            }
        assert ("401" in problems) == path.startswith("/v1")
        assert ("security" in operation) == path.startswith("/v1")


async def test_request_bodies_are_closed_and_name_the_params_of_every_model(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]

    for name in ("TaskRequest", "InputRequest", "OutputRequest", "RetryRequest", "SuperresParams"):
        assert schemas[name]["additionalProperties"] is False, name
    params = schemas["TaskRequest"]["properties"]["params"]["anyOf"]
    assert {choice["title"] for choice in params} >= {MODEL, "image-scoring-v1"}
    assert document["components"]["securitySchemes"].keys() == {"apiKey", "bearer"}


async def test_the_documentation_needs_nothing_from_elsewhere(stranger: httpx.AsyncClient, server: str) -> None:
    page = await stranger.get("/docs")

    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    policy = dict(part.split(" ", 1) for part in page.headers["Content-Security-Policy"].split("; "))
    assert page.headers["Content-Type"].startswith("text/html")
    assert len(links) == 4
    assert policy["script-src"] == "'self'"
    assert "<script>" not in page.text
    for link in links:
        target = urljoin(f"{server}/docs", link)
        answer = await stranger.get(target)
        assert urlsplit(target).netloc == urlsplit(server).netloc
        assert (answer.status_code, len(answer.content) > 100) == (200, True)
