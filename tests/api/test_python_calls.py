"""A request takes few Python calls: `python -m tools.python_calls` says where they are made."""

from collections.abc import Iterator

import httpx
import msgspec
import pytest

from penstock.settings import Settings
from tests.support import python_calls
from tests.support.python_calls import Calls

MOST_OF_SUBMIT = 450
MOST_OF_READ = 350
"""A little more than they take, so that another version of a library does not fail the tests."""


@pytest.fixture
def served(settings: Settings, api_key: str) -> Iterator[tuple[Calls, httpx.Client]]:
    api = msgspec.structs.replace(settings.api, rate_limit_per_minute=100_000)
    with python_calls.serving(msgspec.structs.replace(settings, api=api), api_key) as served:
        yield served


def test_a_submit_takes_few_python_calls(served: tuple[Calls, httpx.Client]) -> None:
    calls = len(python_calls.of_submit(*served))

    assert calls <= MOST_OF_SUBMIT


def test_a_look_at_a_task_takes_few_python_calls(served: tuple[Calls, httpx.Client]) -> None:
    calls = len(python_calls.of_read(*served))

    assert calls <= MOST_OF_READ
