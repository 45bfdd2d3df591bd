"""The table is up to date: the code that it removes exists, and so do the tests that must fail."""

from pathlib import Path

import pytest

from tests.interleave.acts import SITUATIONS
from tests.mutations.table import BETWEEN, MUTATIONS, Mutation

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.guard)
def test_a_guard_is_where_the_table_says(mutation: Mutation) -> None:
    assert (ROOT / mutation.file).read_text().count(mutation.text) == 1
    assert mutation.text != mutation.instead


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.guard)
def test_what_has_to_fail_exists(mutation: Mutation) -> None:
    if mutation.fails.startswith(BETWEEN):
        assert any(name.startswith(mutation.fails.removeprefix(BETWEEN)) for name in SITUATIONS)
    else:
        file, _, name = mutation.fails.partition("::")
        assert f"def {name.partition('[')[0]}" in (ROOT / file).read_text()
