"""No script holds Redis for long, however much there is to do: it gives so many commands, and leaves the rest."""

from collections.abc import AsyncIterator, Iterator

import pytest

from penstock.store.scripts import TEXTS
from tests.support import redis_server
from tools.script_times import CASES, Place, commands_of, open_place

MOST_COMMANDS = 2000
"""The most commands of one call, which take a few milliseconds, or up to twenty on a slow machine."""


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server.on_socket(tmp_path_factory.mktemp("worst")) as path:
        yield path


@pytest.fixture
async def place(socket: str) -> AsyncIterator[Place]:
    async with open_place(socket) as opened:
        yield opened


def test_every_script_has_a_worst_case() -> None:
    assert CASES.keys() == TEXTS.keys()


@pytest.mark.parametrize("script", CASES)
async def test_a_script_gives_a_bounded_number_of_commands_in_its_worst_case(
    place: Place, socket: str, script: str
) -> None:
    assert await commands_of(place, socket, script) <= MOST_COMMANDS
