"""A submit is read from body and headers without any server."""

import msgspec
import pytest

from penstock.errors import InvalidRequest, MalformedRequest
from penstock.intake.call import with_headers
from penstock.intake.parse import decode
from penstock.intake.requests import TaskRequest

MODEL = "noop-v1"
BODY = {"model": MODEL, "input": {"image_url": "https://images.example.com/photo.jpg"}}


def read(headers: dict[str, str], **members: object) -> TaskRequest:
    return with_headers(decode(msgspec.json.encode(BODY | members), TaskRequest), **headers)  # type: ignore[arg-type]


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
