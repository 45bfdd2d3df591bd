"""The scopes of routes are declared, and the log of a start says whose each key is."""

from collections.abc import Iterator
from typing import Any

import pytest
from litestar import get
from loguru import logger

from penstock.api.http.auth import KeyRing
from penstock.api.http.key_table import KeyTable
from penstock.api.http.scopes import (
    ADMIN,
    ALL_TENANTS,
    BY_URL,
    OF_ALL_TENANTS,
    OF_ANY_TENANT,
    READ,
    check_declared,
    in_tenant,
)
from penstock.core.access import ALL_SCOPES, Caller
from penstock.errors import Forbidden, InvalidRequest

SECRETS = ("a-secret-of-north", "a-secret-of-south", "one-without-a-name")


@pytest.fixture
def logged() -> Iterator[list[dict[str, Any]]]:
    """What is logged meanwhile: the text, and what is bound to it."""
    rows: list[dict[str, Any]] = []
    sink = logger.add(lambda message: rows.append(message.record["extra"] | {"text": str(message)}), level="INFO")
    yield rows
    logger.remove(sink)


def test_a_start_says_whose_each_key_is_and_what_it_may_do_and_no_secret(logged: list[dict[str, Any]]) -> None:
    keys = (f"north:{SECRETS[0]}:read", f"south:{SECRETS[1]}", SECRETS[2])

    KeyRing(keys, KeyTable()).log()

    assert [(row["key"], row["tenant"], row["scopes"]) for row in logged[:3]] == [
        ("north", "north", "read"),
        ("south", "south", "read+submit"),
        (logged[2]["key"], "default", "read+submit"),
    ]
    assert [row["scopes"] for row in logged[3:]] == ["operate+admin"], "nobody has them"
    assert not [secret for secret in SECRETS if secret in str(logged)]


@pytest.mark.parametrize(
    ("keys", "warned"),
    [
        ((SECRETS[0],), []),
        ((f"a:{SECRETS[0]}:operate", f"b:{SECRETS[1]}:admin"), []),
        ((f"a:{SECRETS[0]}:operate", f"b:{SECRETS[1]}"), ["admin"]),
    ],
)
def test_a_start_warns_of_scopes_that_no_key_of_the_settings_has(
    logged: list[dict[str, Any]], keys: tuple[str, ...], warned: list[str]
) -> None:
    KeyRing(keys, KeyTable()).log()

    assert [row["scopes"] for row in logged if "key" not in row] == warned


@pytest.mark.parametrize("opt", [READ, ADMIN, BY_URL, READ | BY_URL])
def test_a_route_may_declare_a_scope_or_be_let_in_by_its_url(opt: dict[str, Any]) -> None:
    @get("/", operation_id="declared", opt=opt)
    async def handler() -> None: ...

    check_declared([handler])


@pytest.mark.parametrize("opt", [{}, {"scope": None}, {"let_in_by": "chance"}])
def test_a_route_that_declares_neither_stops_the_start(opt: dict[str, Any]) -> None:
    @get("/", operation_id="forgotten", opt=opt)
    async def handler() -> None: ...

    with pytest.raises(TypeError, match="forgotten"):
        check_declared([handler])


def test_an_operator_in_another_tenant_still_has_its_home() -> None:
    operator = Caller("ops", "ops", ALL_SCOPES)

    there = in_tenant(operator, "north", OF_ANY_TENANT)

    assert (there.id, there.tenant, there.home, there.scopes) == ("ops", "north", "ops", ALL_SCOPES)
    assert in_tenant(operator, "ops", OF_ANY_TENANT) == operator


def test_au1_a_caller_without_operate_stays_in_its_tenant() -> None:
    with pytest.raises(Forbidden, match="`operate`"):
        in_tenant(Caller("ann", "ann"), "north", OF_ALL_TENANTS)


@pytest.mark.parametrize("name", ["", "*", "a/b", "..", "a:b", "a\nb", "a" * 65])
def test_what_is_no_name_of_a_tenant_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest, match="name of a tenant"):
        in_tenant(Caller("ops", "ops", ALL_SCOPES), name, OF_ANY_TENANT)


def test_an_operator_asks_for_all_tenants_where_a_handler_takes_that() -> None:
    operator = Caller("ops", "ops", ALL_SCOPES)

    assert in_tenant(operator, ALL_TENANTS, OF_ALL_TENANTS).tenant == ALL_TENANTS
    with pytest.raises(Forbidden):
        in_tenant(Caller("ann", "ann"), ALL_TENANTS, OF_ALL_TENANTS)
