"""Entries of API_KEYS: whose key it is, and what it may do."""

from pathlib import Path

import pytest

from penstock.cli.greeting import greeting
from penstock.core.access import ALL_SCOPES, TENANT, USUAL_SCOPES, Caller, callers_of, scopes_of, text_of
from penstock.errors import ConfigurationError
from penstock.local.up import Address
from penstock.settings import load

SECRET, OTHER = "0123456789abcdef", "fedcba9876543210"


def callers(*entries: str) -> list[Caller]:
    return [caller for _, caller in callers_of(entries)]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (f"ann:{SECRET}", Caller("ann", "ann", USUAL_SCOPES)),
        (f"ann:{SECRET}:read", Caller("ann", "ann", frozenset({"read"}))),
        (f"ann:{SECRET}:submit+read+operate", Caller("ann", "ann", frozenset({"read", "submit", "operate"}))),
        (f"ann:{SECRET}:read+submit+operate+admin", Caller("ann", "ann", ALL_SCOPES)),
        (SECRET, Caller("9f9f5111f7b2", TENANT, USUAL_SCOPES)),
    ],
)
def test_an_entry_beside_others_says_tenant_and_scopes(entry: str, expected: Caller) -> None:
    assert callers(entry, f"bob:{OTHER}")[0] == expected


@pytest.mark.parametrize("entry", [SECRET, f"me:{SECRET}"])
def test_a_lone_key_has_all_scopes(entry: str) -> None:
    assert callers(entry)[0].scopes == ALL_SCOPES


def test_a_lone_caller_keeps_all_scopes_while_its_key_is_replaced() -> None:
    assert [caller.scopes for caller in callers(f"me:{SECRET}", f"me:{OTHER}")] == [ALL_SCOPES, ALL_SCOPES]


def test_a_lone_key_with_scopes_has_no_others() -> None:
    assert callers(f"me:{SECRET}:read")[0].scopes == {"read"}


@pytest.mark.parametrize("text", ["", "read+", "read,submit", "Read", "read+delete", "all"])
def test_a_word_that_is_no_scope_makes_no_scopes(text: str) -> None:
    assert scopes_of(text) is None


def test_scopes_are_written_as_they_are_read() -> None:
    assert text_of(scopes_of("admin+read+read") or ()) == "read+admin"


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (f"me:{SECRET}:read+sbumit-and-more", "scopes are some of"),
        (f"{SECRET}:read+submit+operate", "scopes are some of"),
        (f"a/b:{SECRET}", "letters"),
        (f"..:{SECRET}", "letters"),
        (f"a b:{SECRET}", "letters"),
        (f"{'a' * 65}:{SECRET}", "letters"),
        ("me:short:read", "at least 16"),
        (f"null:{SECRET}", "null is no name"),
        (f"ann:{SECRET},bob:{SECRET}", "the same secret"),
        (f"ann:{SECRET},ann:{SECRET}:read", "the same secret"),
    ],
)
def test_an_entry_that_cannot_be_meant_stops_the_start(entry: str, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        load(None, {"API_KEYS": entry})


def test_up_prints_the_key_that_it_has_made_only_if_asked_and_none_of_the_settings() -> None:
    """What it prints may be kept as a log, and the keys of the settings are those of other people."""
    address = Address(url="http://127.0.0.1:8000", metrics_url="http://127.0.0.1:9464/metrics", api_key=SECRET)
    others = load(None, {"API_KEYS": f"ann:{SECRET},bob:{OTHER}"})

    plain, made, given = (
        greeting(address, load(None, {})),
        greeting(address, load(None, {}), show_key=True),
        greeting(address, others, show_key=True),
    )

    assert SECRET not in plain
    assert "in penstock-data/api-key" in plain
    assert "$(cat penstock-data/api-key)" in plain
    assert "picsum" not in plain
    assert made.count(SECRET) == 1
    assert SECRET not in given
    assert OTHER not in given
    assert "of ann, bob" in given
    assert "PENSTOCK_API_KEY=$KEY penstock submit --sample" in given


def test_the_line_to_try_finds_a_server_with_another_data_directory(tmp_path: Path) -> None:
    address = Address(url="http://127.0.0.1:8000", metrics_url="http://127.0.0.1:9464/metrics", api_key=SECRET)

    said = greeting(address, load(None, {"PENSTOCK_UP_DATA_DIR": str(tmp_path / "my data")}))

    assert "PENSTOCK_UP_DATA_DIR='" in said
    assert f"$(cat '{tmp_path}/my data/api-key')" in said
