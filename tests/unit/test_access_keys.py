"""The text of managed keys, what is kept of them, and the table in which a process finds them."""

import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import msgspec
import pytest

from penstock.api.app import create_app
from penstock.api.http.key_table import KeyTable
from penstock.core.access import Caller
from penstock.core.access_keys import ALPHABET, PATTERN, AccessKey, checksum, new_access_key, presented_key
from penstock.core.task_tokens import TaskTokens
from penstock.errors import ConfigurationError, NotReady
from penstock.settings import Settings, load
from penstock.store import KnownKeys

TOKENS = TaskTokens(b"s" * 32, {})
TASK = "tsk_1"


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.s = 1000.0

    def __call__(self) -> float:
        return self.s


def record(text: str, **changes: Any) -> AccessKey:
    """What Redis holds of a key."""
    given = presented_key(text.encode())
    assert given is not None
    said = {"tenant": "acme", "name": "web", "scopes": ("read", "submit"), "created": 0, "created_by": "root"}
    return AccessKey(id=given.id, digest=given.digest.hex(), **said | changes)


def table_of(*keys: AccessKey, clock: Clock | None = None, tokens: TaskTokens = TOKENS) -> KeyTable:
    """A table that has read these keys."""
    table = KeyTable(clock or Clock())
    table.take(KnownKeys((b"1", b"s"), keys, tokens))
    return table


def other(text: str, place: int) -> str:
    """The text with another character at one place."""
    new = next(char for char in ALPHABET if char != text[place])
    return text[:place] + new + (text[place + 1 :] if place >= 0 and place + 1 < len(text) else "")


def test_a_key_has_the_form_that_scanners_look_for() -> None:
    texts = {new_access_key()[0] for _ in range(200)}

    assert len(texts) == 200
    assert all(re.fullmatch(PATTERN, text) for text in texts)
    assert all(text.endswith(checksum(text[:-6].encode())) for text in texts)


def test_the_checksum_is_the_crc_32_in_base62_that_github_appends() -> None:
    assert checksum(b"123456789") == "3jZRME"  # 0xCBF43926, the check value of CRC-32
    assert checksum(b"") == "000000"


def test_a_key_with_any_character_changed_is_no_key() -> None:
    text, _ = new_access_key()

    assert presented_key(text.encode()) is not None
    for place in range(len(text)):
        assert presented_key(other(text, place).encode()) is None
    for wrong in (b"", text[:-1].encode(), text.encode() + b"0", text.encode() + b"\n", "pk_é".encode()):
        assert presented_key(wrong) is None


def test_au2_what_is_kept_of_a_key_does_not_contain_it() -> None:
    text, _ = new_access_key()

    kept = msgspec.json.encode(record(text)).decode()

    secret = text.rpartition("_")[2]
    assert secret not in kept
    assert all(secret[at : at + 8] not in kept for at in range(len(secret) - 8))
    assert presented_key(record(text).digest.encode()) is None


def test_a_key_lets_in_its_tenant_until_it_expires_or_is_revoked() -> None:
    clock = Clock()
    lasting, ending, revoked = (new_access_key()[0] for _ in range(3))
    table = table_of(record(lasting), record(ending, expires=1_001_000), record(revoked, revoked=5), clock=clock)

    assert table.find(lasting.encode()) == Caller("web", "acme", frozenset({"read", "submit"}))
    assert table.find(ending.encode()) is not None
    assert table.find(revoked.encode()) is None
    assert table.find(new_access_key()[0].encode()) is None
    clock.s = 1001.0
    assert table.find(ending.encode()) is None
    assert table.find(lasting.encode()) is not None


def test_a_key_that_comes_before_the_first_read_is_asked_to_come_again() -> None:
    with pytest.raises(NotReady):
        KeyTable().find(new_access_key()[0].encode())

    assert KeyTable().find(b"pen_a-key-of-the-settings") is None


def test_au6_nothing_starts_without_a_key_or_with_that_of_an_example() -> None:
    with pytest.raises(ConfigurationError, match="set at least one key"):
        create_app(Settings())
    with pytest.raises(ConfigurationError, match="example key"):
        load(None, {"API_KEYS": "root:change-me-to-a-key-of-yours"})
    assert Settings().api.host == "127.0.0.1"


def steps(call: Callable[[], object]) -> list[tuple[str, int]]:
    """The lines of Python that a call runs, in their order."""
    found: list[tuple[str, int]] = []

    def trace(frame: FrameType, event: str, _: object) -> Any:
        if event == "line":
            found.append((frame.f_code.co_name, frame.f_lineno))
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return found


def test_au3_a_wrong_secret_takes_the_same_steps_whatever_of_it_is_right() -> None:
    text, _ = new_access_key()
    table = table_of(record(text))
    near = other(text[:-6], len(text) - 7)
    far = other(text[:-6], 16)
    unknown = other(text[:-6], 5)
    wrong = [(part + checksum(part.encode())).encode() for part in (near, far, unknown)]

    runs = [steps(lambda key=key: table.find(key)) for key in wrong]

    assert all(table.find(key) is None for key in wrong)
    assert len(runs[0]) > 10
    assert runs[0] == runs[1] == runs[2]


# --- task tokens --------------------------------------------------------------------------------------------------


def test_a_token_opens_its_task_until_it_expires_and_no_other() -> None:
    token = TOKENS.write(TASK, "acme", expires_s=500)

    assert re.fullmatch(r"tt_[A-Za-z0-9_-]+", token)
    assert TOKENS.tenant_of(token, TASK, now_s=499.9) == "acme"
    assert TOKENS.tenant_of(token, TASK, now_s=500.0) is None
    assert TOKENS.tenant_of(token, "tsk_2", now_s=0) is None
    assert TaskTokens(b"t" * 32, {}).tenant_of(token, TASK, now_s=0) is None


def test_another_generation_of_a_tenant_ends_its_tokens_and_nobody_elses() -> None:
    old = [TOKENS.write(TASK, tenant, expires_s=500) for tenant in ("acme", "other")]

    after = TaskTokens(TOKENS.secret, {"acme": 7})

    assert [after.tenant_of(token, TASK, now_s=0) for token in old] == [None, "other"]
    assert after.tenant_of(after.write(TASK, "acme", expires_s=500), TASK, now_s=0) == "acme"


def test_a_token_with_any_character_changed_opens_nothing() -> None:
    token = TOKENS.write(TASK, "acme", expires_s=500)

    for place in range(len(token)):
        assert TOKENS.tenant_of(other(token, place), TASK, now_s=0) is None
    for wrong in ("", "tt_", token[3:], token + "A", token + "=", token[:-4], f"{token}\n", "tt_é", "tt_" + "A" * 5000):
        assert TOKENS.tenant_of(wrong, TASK, now_s=0) is None
