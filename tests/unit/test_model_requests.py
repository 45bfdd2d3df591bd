"""The description of the API has a request for every model that is served, whatever its name and schemas are."""

import json
import re
from typing import Any

import jsonschema_rs
import pytest

from penstock.api.app import openapi_document
from penstock.api.description import model_requests
from penstock.api.description.components import component, schemas
from penstock.api.description.examples.requests import by_type
from penstock.api.replicate.versions import openapi_of
from penstock.core.model import Member, Model
from penstock.intake.params import complete_params
from tests.support.published import models_of

TEXT = {"type": "string", "maxLength": 9}
AUDIO = Model(
    name="speech",
    version="1",
    digest="a",
    inputs={
        "audio": Member(kind="file", media_types=("audio/*",), description="what was said"),
        "text": Member(kind="json", schema=TEXT, required=False),
        "words": Member(kind="json", schema={"$ref": "#/$defs/Words", "$defs": {"Words": {"type": "array"}}}),
    },
)
PHOTO = {"image": Member()}


def served(*models: Model) -> dict[str, Any]:
    return schemas([*models_of(), *models])


def request_for(name: str, found: dict[str, Any]) -> dict[str, Any]:
    reference = found["TaskRequest"]["discriminator"]["mapping"][name]
    return dict(found[reference.rpartition("/")[2]])


def test_a_member_of_an_input_is_described_by_its_kind() -> None:
    found = served(AUDIO)

    shown = found[request_for("speech", found)["properties"]["input"]["$ref"].rpartition("/")[2]]

    assert shown["required"] == ["audio", "words"]
    assert shown["additionalProperties"] is False
    assert "audio/*" in shown["properties"]["audio"]["anyOf"][0]["description"]
    assert shown["properties"]["audio"]["anyOf"][1]["$ref"].endswith("/UploadReference")
    assert shown["properties"]["audio"]["description"] == "what was said"
    assert shown["properties"]["text"]["anyOf"] == [TEXT, {"type": "null"}]
    assert found[shown["properties"]["words"]["$ref"].rpartition("/")[2]] == {"type": "array"}


def test_the_example_of_json_without_a_type_is_no_null() -> None:
    words = {"any": Member(kind="json"), "one": Member(kind="json", schema={"enum": ["a", "b"]})}

    shown = by_type([Model(name="words", version="1", digest="w", inputs=words)])

    assert shown["TaskRequest"]["examples"]["words"]["value"]["input"] == {"any": "text", "one": "a"}


def test_a_line_of_a_batch_takes_what_any_model_does() -> None:
    found = served(AUDIO)
    lines = [{"audio": "https://example.com/a.wav", "words": []}, {"image_url": "https://example.com/a.png"}]

    for name in ("BatchLine", "BatchDefaults"):
        takes = jsonschema_rs.validator_for(found[name]["properties"]["input"])
        assert all(map(takes.is_valid, lines))
        assert component("InputRequest") in schemas(models_of())[name]["properties"]["input"]["anyOf"]


def test_a_model_with_one_image_takes_what_it_always_took() -> None:
    found = served(Model(name="other", version="1", digest="o", inputs={"photo": Member()}))

    for name in ("other", "superres-x4", "image-scoring-v1"):
        assert request_for(name, found)["properties"]["input"] == {"$ref": "#/components/schemas/InputRequest"}


def test_an_image_that_may_be_left_out_is_shown_so() -> None:
    other = Model(name="other", version="1", digest="o", inputs={"photo": Member(required=False)})

    assert served(other)["OtherInput"]["required"] == []
    assert by_type([other])["TaskRequest"]["examples"]["other"]["value"]["input"] == {}


def test_the_request_of_the_only_model_is_that_of_every_task() -> None:
    (only,) = models_of()[:1]

    shown = schemas([only])["TaskRequest"]

    assert shown["title"] == "TaskRequest"
    assert shown["properties"]["model"] == {"type": "string", "const": only.name}
    assert schemas([])["TaskRequest"]["properties"]["model"]["type"] == "string"


def test_versions_share_a_request_unless_they_take_something_else() -> None:
    wide = {"type": "object", "properties": {"k": {"type": "integer"}}}
    first, second, third = (
        Model(name="many", version=v, digest=v, versioned=True, inputs=PHOTO, params=params)
        for v, params in (("1", {}), ("2", {}), ("3", wide))
    )
    found = served(first, second, third)

    assert request_for("many", found) == request_for("many@1", found) == request_for("many@2", found)
    assert request_for("many", found)["properties"]["model"]["enum"] == ["many", "many@1", "many@2"]
    assert found["TaskRequest"]["discriminator"]["mapping"]["many"].endswith("/ManyRequest")
    assert request_for("many@3", found)["properties"]["params"]["anyOf"][0] == wide


def test_definitions_of_two_models_with_one_name_are_kept_apart() -> None:
    def model(name: str, kind: str) -> Model:
        params = {"$ref": "#/$defs/Size[int]", "$defs": {"Size[int]": {"type": kind}}}
        return Model(name=name, version="1", digest=name, inputs=PHOTO, params=params)

    found = served(model("a", "object"), model("b", "array"))

    shown = [request_for(name, found)["properties"]["params"]["anyOf"][0]["$ref"] for name in "ab"]
    assert [found[one.rpartition("/")[2]] for one in shown] == [{"type": "object"}, {"type": "array"}]


ODD: list[dict[str, Any]] = [
    {"properties": {"q": True, "r": False}},
    {"properties": {"q": {"items": True}}, "items": True},
    {"properties": {"q": {"anyOf": [True, {"type": "string"}]}}, "anyOf": [True]},
    {"$ref": "#/$defs/A", "$defs": {"A": True}},
    {"properties": {"q": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"properties": {"x": True, "y": {"items": True}}}}},
    {"$ref": "#/$defs/A", "$defs": {"A": {"additionalProperties": True, "properties": {"x": {"anyOf": [True]}}}}},
    {"$defs": [1]},
    {"$ref": "#/$defs/A", "$defs": {"A": {"properties": [1]}}},
    {"properties": [1]},
    {"anyOf": 5},
]


@pytest.mark.parametrize("schema", ODD)
def test_one_odd_schema_takes_neither_the_description_nor_a_submit_down(schema: dict[str, Any]) -> None:
    inputs = {"image": Member(required=False), "j": Member(kind="json", schema=schema, required=False)}
    odd = Model(name="odd", version="1", digest="o", inputs=inputs, params=schema)

    found = json.loads(openapi_document([*models_of(), odd]))["components"]["schemas"]

    assert {"odd", "superres-x4"} <= found["TaskRequest"]["discriminator"]["mapping"].keys()
    assert "Input" in openapi_of(odd)["components"]["schemas"]
    assert complete_params({"q": ["x"]}, odd)["q"] == ["x"]


def test_a_boolean_schema_is_shown_as_it_is() -> None:
    schema = {"type": "object", "properties": {"any": True, "none": {"items": False, "type": "array"}}}
    found = served(Model(name="odd", version="1", digest="o", inputs=PHOTO, params=schema))

    assert request_for("odd", found)["properties"]["params"]["anyOf"][0] == schema


@pytest.mark.parametrize(
    "params",
    [
        {"$ref": "http://127.0.0.1:1/schema.json"},
        {"$ref": "#/properties/a"},
        {"properties": {"a": {"$ref": "#/$defs/Missing"}}},
        {"properties": {"a": {"$ref": 5}}},
    ],
)
def test_a_reference_that_leads_nowhere_is_not_shown(params: dict[str, Any]) -> None:
    found = served(Model(name="lost", version="1", digest="l", inputs=PHOTO, params=params))

    assert request_for("lost", found)["properties"]["params"] == {"anyOf": [{"type": "object"}, {"type": "null"}]}


def test_names_of_models_become_names_of_schemas_whatever_they_are() -> None:
    names = ["a-b", "a_b", "a.b", "../../x", 'quo"te', "<script>", "été", "task", "1"]
    found = served(*(Model(name=name, version="1", digest=name, inputs=PHOTO) for name in names))

    requests = {found["TaskRequest"]["discriminator"]["mapping"][name] for name in names}
    assert len(requests) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+", name) for name in found)
    assert "tags" in openapi_document([*models_of(), *(Model(name=n, version="1", digest=n) for n in names)])


def test_what_is_too_much_to_show_is_one_request_for_all_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_requests, "MOST_BYTES", 3_000)
    large = {"type": "object", "description": "x" * 2_000}
    found = served(*(Model(name=f"m{n}", version="1", digest="d", inputs=PHOTO, params=large) for n in range(9)))

    mapping = found["TaskRequest"]["discriminator"]["mapping"]
    assert {f"m{n}" for n in range(9)} <= mapping.keys()
    assert mapping["m8"].endswith("/OtherModelRequest")
    assert request_for("m8", found)["properties"]["model"]["enum"][-1] == "m8"
    assert jsonschema_rs.is_valid(request_for("m8", found)["properties"]["input"], {"anything": 1})
