"""Signatures as a receiver checks them: with the official library of Standard Webhooks."""

import base64
import time
from datetime import UTC, datetime

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from penstock.core.events import EVENTS, Event
from penstock.core.task import new_task_id
from penstock.webhooks.signature import Signer, message_id

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = f"whsec_{base64.b64encode(bytes(range(32))).decode()}"
BODY = '{"test": 2432232314}'


def test_wh1_the_vector_of_the_specification() -> None:
    at = datetime.fromtimestamp(1614265330, UTC)

    headers = Signer([SECRET]).headers("msg_p5jXN8AQM9LWM0D4loKWxJek", BODY, at)

    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("webhook-id", "msg_another"),
        ("webhook-timestamp", str(int(time.time()) - 60)),
        ("webhook-timestamp", str(int(time.time()) - 360)),
        ("webhook-timestamp", str(int(time.time()) + 360)),
        ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="),
    ],
    ids=["id", "a minute ago", "six minutes ago", "in six minutes", "signature"],  # the same in every process
)
def test_a_changed_header_is_rejected(header: str, value: str) -> None:
    headers = Signer([SECRET]).headers("msg_1", BODY)
    assert Webhook(SECRET).verify(BODY, headers) == {"test": 2432232314}

    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY, headers | {header: value})


def test_a_changed_body_is_rejected() -> None:
    headers = Signer([SECRET]).headers("msg_1", BODY)

    with pytest.raises(WebhookVerificationError):
        Webhook(SECRET).verify(BODY.replace("4", "5", 1), headers)


def test_while_a_secret_is_replaced_both_are_good() -> None:
    headers = Signer([SECRET, OTHER]).headers("msg_1", BODY)

    assert Webhook(SECRET).verify(BODY, headers) == Webhook(OTHER).verify(BODY, headers)
    assert headers["webhook-signature"].count("v1,") == 2


def test_no_id_has_a_dot_in_it() -> None:
    events = [Event(seq=12, kind=kind, at=0, epoch=0, tries=0, status="waiting") for kind in EVENTS]

    assert not any("." in message_id(new_task_id(), event) for event in events)
