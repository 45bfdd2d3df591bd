"""The header `Prefer` (RFC 7240)."""

import pytest

from penstock.api.http.headers import BARE_WAIT_S, MAX_WAIT_S, wait_of

FORMS: list[tuple[tuple[str, ...], int | None]] = [
    (("wait=10",), 10),
    (("wait=0",), 0),
    (("wait=0010",), 10),
    (("Wait = 10 ",), 10),
    (('wait="10"',), 10),
    (("wait=10; of=everything",), 10),
    (("respond-async, wait=10",), 10),
    (("respond-async", "wait=10"), 10),
    (("wait=10, wait=20",), 10),
    (("wait=300",), MAX_WAIT_S),
    (("wait=301",), MAX_WAIT_S),
    (("wait=" + "9" * 5000,), MAX_WAIT_S),
    (("wait",), BARE_WAIT_S),
    (("wait=",), BARE_WAIT_S),
    (('wait=""',), BARE_WAIT_S),
    ((), None),
    (("",), None),
    (("respond-async",), None),
    (("waiting=10",), None),
    (("return=minimal; wait=10",), None),
    (('note="or else, wait=10"',), None),
    (('note="a \\", wait=10"',), None),
    (('note="never closed, wait=10',), None),
    (("wait=-1",), None),
    (("wait=1.5",), None),
    (("wait=1e2",), None),
    (("wait=ten",), None),
    (("wait=١٠",), None),
    (("wait=ten, wait=10",), None),
]


@pytest.mark.parametrize(("values", "seconds"), FORMS)
def test_the_wait_that_is_preferred(values: tuple[str, ...], seconds: int | None) -> None:
    assert wait_of(values) == seconds


@pytest.mark.timeout(20)
@pytest.mark.parametrize("hostile", ['"' * 60_000, '"' + '\\"' * 30_000, "," * 60_000, "a" * 60_000])
def test_a_hostile_header_is_read_in_linear_time(hostile: str) -> None:
    """Trying each quote anew would take a minute."""
    assert wait_of([hostile]) is None
