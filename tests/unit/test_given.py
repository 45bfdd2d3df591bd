"""The members of an input as clients send them: which are which, and what is wrong with them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.core.model import Member, Model
from penstock.errors import InvalidRequest
from penstock.intake.given import given_of

URL = "https://example.com/a.png"
UPLOAD = "upl_" + "0" * 32

PHOTO = Model(name="photo", version="1", digest="d", inputs={"image": Member()})
RENAMED = Model(name="renamed", version="1", digest="d", inputs={"photo": Member(), "text": Member(kind="json")})
PAIR = Model(name="pair", version="1", digest="d", inputs={"image": Member(), "mask": Member(required=False)})
OPTIONAL = Model(name="optional", version="1", digest="d", inputs={"image": Member(required=False)})
SPEECH = Model(
    name="speech", version="1", digest="d", inputs={"audio": Member(kind="file"), "text": Member(kind="json")}
)
MODELS = (PHOTO, OPTIONAL, RENAMED, PAIR, SPEECH)


def found(sent: dict[str, Any], model: Model) -> dict[str, Any]:
    """Returns the place of each member, or its value."""
    return {one.name: one.url or one.upload_id or one.value for one in given_of(sent, model)}


def refused(sent: dict[str, Any], model: Model) -> tuple[str | None, str]:
    with pytest.raises(InvalidRequest) as error:
        given_of(sent, model)
    return error.value.param, error.value.detail


@pytest.mark.parametrize(
    ("sent", "model", "expected"),
    [
        ({"image_url": URL}, PHOTO, {"image": URL}),
        ({"upload_id": UPLOAD}, PHOTO, {"image": UPLOAD}),
        ({"image": URL}, PHOTO, {"image": URL}),
        ({"image": {"upload_id": UPLOAD}}, PHOTO, {"image": UPLOAD}),
        ({"text": [1], "image_url": URL}, RENAMED, {"photo": URL, "text": [1]}),
        ({"upload_id": UPLOAD, "text": ""}, RENAMED, {"photo": UPLOAD, "text": ""}),
        ({"text": {"a": None}, "photo": URL}, RENAMED, {"photo": URL, "text": {"a": None}}),
        ({"image": URL}, PAIR, {"image": URL}),
        ({}, OPTIONAL, {}),
        ({"image_url": URL}, OPTIONAL, {"image": URL}),
        ({"image": {"upload_id": UPLOAD}}, OPTIONAL, {"image": UPLOAD}),
        ({"mask": {"upload_id": UPLOAD}, "image": URL}, PAIR, {"image": URL, "mask": UPLOAD}),
        ({"text": False, "audio": URL}, SPEECH, {"audio": URL, "text": False}),
    ],
)
def test_an_input_is_read_by_the_members_of_its_model(
    sent: dict[str, Any], model: Model, expected: dict[str, Any]
) -> None:
    assert found(sent, model) == expected
    assert [*found(sent, model)] == [name for name in model.inputs if name in expected], "in the order of the model"


@pytest.mark.parametrize(
    ("sent", "model", "param", "says"),
    [
        ({}, PHOTO, "input.image_url", "either image_url or upload_id is needed"),
        ({"image_url": URL, "upload_id": UPLOAD}, PHOTO, "input.upload_id", "either image_url or upload_id, not both"),
        ({"image_url": 1}, PHOTO, "input.image_url", "Expected `str`, got `int`"),
        ({"image_url": ""}, PHOTO, "input.image_url", "Expected `str` of length >= 1"),
        ({"upload_id": "upl_1"}, PHOTO, "input.upload_id", "Expected `str` matching regex"),
        ({"picture": URL}, PHOTO, "input.picture", "unknown field `picture`; known are: image_url, upload_id"),
        ({"image": URL, "image_url": URL}, PHOTO, "input.image_url", "only image of a model, and only once"),
        ({"image_url": URL}, PAIR, "input.image_url", "known are: image, mask"),
        ({"upload_id": UPLOAD}, SPEECH, "input.upload_id", "known are: audio, text"),
        ({"image_url": URL}, RENAMED, "input.text", "missing required field `text`"),
        ({"text": 1}, RENAMED, "input.photo", "missing required field `photo`"),
        ({"mask": URL}, PAIR, "input.image", "missing required field `image`"),
        ({"image": URL, "mask": 7}, PAIR, "input.mask", "a URL, a data: URI or"),
        ({"image": URL, "mask": ""}, PAIR, "input.mask", "a URL, a data: URI or"),
        ({"image": URL, "mask": [URL]}, PAIR, "input.mask", "a URL, a data: URI or"),
        ({"image": {"upload_id": 7}}, PAIR, "input.image.upload_id", "Expected `str`, got `int`"),
        ({"image": {"url": URL}}, PAIR, "input.image.url", "unknown field `url`; known are: upload_id"),
        ({"image": {}}, PAIR, "input.image.upload_id", "missing required field `upload_id`"),
        ({"audio": URL, "text": 1, "speed": 2}, SPEECH, "input.speed", "known are: audio, text"),
    ],
)
def test_what_is_wrong_with_an_input_names_the_member(
    sent: dict[str, Any], model: Model, param: str, says: str
) -> None:
    at, detail = refused(sent, model)

    assert at == param
    assert says in detail


NAMES = st.sampled_from(("image", "mask", "audio", "text", "photo", "image_url", "upload_id", "", "é", "x" * 5000))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.sampled_from((URL, UPLOAD)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(NAMES, VALUES, max_size=4), st.sampled_from(MODELS))
def test_an_odd_input_is_read_or_refused_with_the_member_at_fault(sent: dict[str, Any], model: Model) -> None:
    try:
        members = given_of(sent, model)
    except InvalidRequest as error:
        wrong = str(error.param)
    else:
        wrong = "input"
        assert {one.name for one in members} >= {name for name, member in model.inputs.items() if member.required}
    assert wrong.startswith("input")
    assert len(wrong) <= 200
