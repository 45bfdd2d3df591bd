import os

import pytest

from tests.standin.card import Card
from tests.standin.environment import Standin

REQUIRED = "STANDIN_REQUIRED"
"""With this variable set, stand-ins that are not there fail the tests, which else are skipped."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent.name == "standin":
            item.add_marker(pytest.mark.standin)


@pytest.fixture(scope="session")
def card() -> Card:
    """A card that computes nothing; see `Card`."""
    standin = Standin()
    if not standin.is_ready():
        give_up = pytest.fail if os.environ.get(REQUIRED) else pytest.skip
        give_up("the stand-ins for CUDA are not there, or old: `python -m tests.standin prepare` makes them")
    return Card(standin)
