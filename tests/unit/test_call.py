"""A submit is read from body and headers without any server."""

import msgspec
import pytest

from penstock.errors import InvalidRequest, MalformedRequest, ModelNotFound
from penstock.intake.call import check_task, read_task
from penstock.intake.requests import InputRequest, OutputRequest, TaskRequest
from penstock.models import noop

MODEL = noop.Noop.name
BODY = {"model": MODEL, "input": {"image_url": "https://images.example.com/photo.jpg"}}


def read(headers: dict[str, str], **members: object) -> TaskRequest:
    return read_task(msgspec.json.encode(BODY | members), models=(MODEL,), **headers)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("headers", "members"),
    [
        ({"idempotency_key": '"order-1"'}, {"client_request_id": "order-1"}),
        ({"idempotency_key": "order-1"}, {"client_request_id": "order-1"}),
        ({"cancel_after": "1h30m5s"}, {"finish_within_s": 5405}),
        ({"cache_control": "max-age=0, No-Cache"}, {"reuse": False}),
        ({"cache_control": "no-store"}, {}),
    ],
)
def test_a_header_says_the_same_as_a_member_of_the_body(headers: dict[str, str], members: dict[str, object]) -> None:
    assert read(headers) == read({}, **members) == read(headers, **members)


@pytest.mark.parametrize(
    ("headers", "members", "error"),
    [
        ({"idempotency_key": "order-1"}, {"client_request_id": "order-2"}, InvalidRequest),
        ({"idempotency_key": '"order'}, {}, MalformedRequest),
        ({"cancel_after": "60"}, {"finish_within_s": 61}, InvalidRequest),
        ({"cancel_after": "soon"}, {}, MalformedRequest),
        ({"cancel_after": "8d"}, {}, MalformedRequest),
        ({"cancel_after": "169h"}, {}, InvalidRequest),
    ],
)
def test_a_header_that_contradicts_the_body_or_cannot_be_read_is_refused(
    headers: dict[str, str], members: dict[str, object], error: type[Exception]
) -> None:
    with pytest.raises(error):
        read(headers, **members)


def test_a_model_that_is_not_served_is_refused_although_it_is_known() -> None:
    with pytest.raises(ModelNotFound, match="other"):
        check_task(TaskRequest(model=MODEL, input=InputRequest(image_url="data:,")), ("other",))


def test_a_jpeg_without_loss_is_refused() -> None:
    task = TaskRequest(
        model=MODEL, input=InputRequest(image_url="data:,"), output=OutputRequest(format="jpg", lossless=True)
    )

    with pytest.raises(InvalidRequest, match="never lossless"):
        check_task(task, (MODEL,))
