"""A browser for all tests of a module: it costs half a second to start."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.support import chromium

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    with chromium.running() as browser:
        yield browser
