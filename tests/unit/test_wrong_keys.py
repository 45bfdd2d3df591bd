"""The brake on wrong keys, without a server."""

from typing import Any

import pytest

from penstock.api.http import wrong_keys
from penstock.api.http.addresses import ClientAddresses
from penstock.api.http.wrong_keys import MOST_ADDRESSES, WrongKeys, credential_of
from penstock.errors import RateLimited

ADDRESSES = ClientAddresses(())


def scope(address: str, path: str = "/v1/tasks", query: bytes = b"", method: str = "GET") -> Any:
    target = {"method": method, "path": path, "query_string": query}
    return {"client": (address, 1), "headers": [], "state": {}} | target


@pytest.fixture
def brake(monkeypatch: pytest.MonkeyPatch) -> WrongKeys:
    monkeypatch.setattr(wrong_keys, "HOLD_S", 0.0)
    return WrongKeys(ADDRESSES, 5)


async def test_rl2_an_address_with_too_many_wrong_keys_is_refused_and_no_other(brake: WrongKeys) -> None:
    for number in range(5):
        await brake.check(scope("192.0.2.1"), b"wrong %d" % number)
        brake.count(scope("192.0.2.1"), b"wrong %d" % number)

    with pytest.raises(RateLimited) as refused:
        await brake.check(scope("192.0.2.1"), b"wrong 6")
    await brake.check(scope("192.0.2.2"), b"wrong 6")

    assert 1 <= (refused.value.retry_after_s or 0) <= 12


async def test_rl2_a_key_that_was_right_is_let_through_until_it_is_wrong(brake: WrongKeys) -> None:
    brake.is_right(b"right")
    for _ in range(9):
        brake.count(scope("192.0.2.1"), b"wrong")

    await brake.check(scope("192.0.2.1"), b"right")
    brake.count(scope("192.0.2.1"), b"right")  # it was revoked

    with pytest.raises(RateLimited):
        await brake.check(scope("192.0.2.1"), b"right")


async def test_rl2_what_needs_no_key_is_not_refused(brake: WrongKeys) -> None:
    for _ in range(9):
        brake.count(scope("192.0.2.1"), b"wrong")

    await brake.check(scope("192.0.2.1", "/readyz"), b"")
    await brake.check(scope("192.0.2.1", "/v1/uploads/upl_1", b"token=1", "PUT"), b"token=1")
    await brake.check(scope("192.0.2.1", "/replicate/v1/predictions/a/output/b.png", b"token=1"), b"token=1")
    with pytest.raises(RateLimited):
        await brake.check(scope("192.0.2.1"), b"")


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks/tsk_1", "/v1/uploads/upl_1", "/replicate/v1/predictions/a"])
async def test_rl2_a_token_is_slowed_as_a_key_is_and_let_through_when_it_was_right(brake: WrongKeys, path: str) -> None:
    for _ in range(9):
        brake.count(scope("192.0.2.1"), b"wrong")
    asked = scope("192.0.2.1", path, b"token=1")
    with pytest.raises(RateLimited):
        await brake.check(asked, credential_of(asked, {}))

    brake.is_right(credential_of(asked, {}))

    await brake.check(asked, credential_of(asked, {}))


def test_rl2_a_hundred_thousand_addresses_take_bounded_memory() -> None:
    brake = WrongKeys(ADDRESSES, 5)
    for number in range(3 * MOST_ADDRESSES):
        brake.count(scope(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"), b"wrong")
        brake.is_right(b"%d" % number)

    assert len(brake.late) <= MOST_ADDRESSES
    assert len(brake._known) <= wrong_keys.MOST_KNOWN


def test_without_a_limit_nothing_is_counted() -> None:
    brake = WrongKeys(ADDRESSES, 0)
    brake.count(scope("192.0.2.1"), b"wrong")

    assert not brake.late
