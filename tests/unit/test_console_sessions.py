"""Sessions of the console: what is kept of one, and how long it is the caller of its key."""

import hashlib
import time
from typing import Any

import msgspec
import pytest

from penstock.api.console.sessions import BrowserSession
from penstock.api.http.auth import KeyRing
from penstock.api.http.key_table import KeyTable
from penstock.core.access import Caller
from penstock.core.access_keys import AccessKey, new_access_key, presented_key
from penstock.core.sessions import SessionRecord, act_token, digest_of, new_token, record_of
from penstock.core.task_tokens import TaskTokens
from penstock.store import KnownKeys

LATER = time.time() + 3600
OF_SETTINGS = "a-key-only-for-the-tests"
VIEWER = Caller("web", "acme", frozenset({"read"}))


class Clock:
    s = 1000.0

    def __call__(self) -> float:
        return self.s


def ring(*keys: AccessKey, clock: Clock | None = None) -> KeyRing:
    table = KeyTable(clock or Clock())
    table.take(KnownKeys((b"1", b"s"), keys, TaskTokens(b"ab" * 32, {})))
    return KeyRing([f"me:{OF_SETTINGS}"], table)


def managed(text: str, **changes: Any) -> AccessKey:
    given = presented_key(text.encode())
    assert given
    plain = AccessKey(
        id=given.id, digest=given.digest.hex(), tenant="acme", name="web", scopes=("read",), created=1, created_by="me"
    )
    return msgspec.structs.replace(plain, **changes)


def test_a_session_is_the_caller_of_its_key_of_either_kind() -> None:
    text, _ = new_access_key()
    keys, token = ring(managed(text)), new_token()
    of_managed = BrowserSession(token, record_of(token, text.encode(), expires=LATER), keys)
    of_settings = BrowserSession(token, record_of(token, OF_SETTINGS.encode(), expires=LATER), keys)

    assert of_managed.caller() == VIEWER
    found = of_settings.caller()
    assert found is not None
    assert found.id == "me"


def test_a_session_ends_when_its_key_expires_or_is_revoked() -> None:
    (text, _), clock, token = new_access_key(), Clock(), new_token()
    record = record_of(token, text.encode(), expires=LATER)
    ending = BrowserSession(token, record, ring(managed(text, expires=1_001_000), clock=clock))
    assert ending.caller() == VIEWER
    clock.s = 1001.0
    assert ending.caller() is None
    assert BrowserSession(token, record, ring(managed(text, revoked=5))).caller() is None
    assert BrowserSession(token, record, ring()).caller() is None


def test_a_session_ends_in_its_time() -> None:
    token = new_token()
    record = record_of(token, OF_SETTINGS.encode(), expires=time.time() - 1)
    assert BrowserSession(token, record, ring()).caller() is None


def test_the_record_of_a_session_is_that_of_its_token_alone() -> None:
    text, token = new_access_key()[0], new_token()
    record = record_of(token, text.encode(), expires=LATER)
    assert BrowserSession(new_token(), record, ring(managed(text))).caller() is None
    forged = SessionRecord(key=record.key, proof=hashlib.sha256(text.encode()).hexdigest(), expires=LATER)
    assert BrowserSession(token, forged, ring(managed(text))).caller() is None


def test_what_is_kept_contains_neither_token_nor_key() -> None:
    text, token = new_access_key()[0], new_token()
    kept = msgspec.json.encode(record_of(token, text.encode(), expires=LATER)) + digest_of(token).encode()
    secret = text.rpartition("_")[2]
    assert token not in kept
    assert secret.encode() not in kept
    assert hashlib.sha256(text.encode()).hexdigest().encode() not in kept, "keys could be tried against it"
    assert act_token(token) not in kept.decode()


@pytest.mark.parametrize("proof", ["", "0" * 63, "Z" * 64, "0" * 64 + "\n"])
def test_a_record_with_another_proof_cannot_be_read(proof: str) -> None:
    row = msgspec.json.encode({"key": "", "proof": proof, "expires": LATER})
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(row, type=SessionRecord)
