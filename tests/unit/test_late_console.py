"""When the console is made, and for which requests."""

import asyncio

import httpx
import pytest
from litestar import Litestar, get

from penstock.api.late_console import LateConsole


def answering(name: str) -> Litestar:
    """An application that answers every path with its name."""

    @get(["/", "/{rest:path}"], sync_to_thread=False)
    def answer() -> str:
        return name

    return Litestar([answer], openapi_config=None)


class Maker:
    """Makes a console, and fails so many times before."""

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.calls = 0

    def __call__(self) -> Litestar:
        self.calls += 1
        if self.calls <= self.failures:
            raise OSError("too many open files")
        return answering("console")


def client_of(maker: Maker) -> httpx.AsyncClient:
    late = LateConsole(answering("app"), maker)  # type: ignore[arg-type]
    return httpx.AsyncClient(transport=httpx.ASGITransport(late), base_url="http://here")


async def test_the_console_is_made_once_for_its_own_paths_and_for_no_other() -> None:
    maker = Maker()
    async with client_of(maker) as client:
        others = [(await client.get(path)).text for path in ("/", "/consoles", "/v1/console/")]
        before = maker.calls
        found = await asyncio.gather(*(client.get(path) for path in ("/console", "/console/", "/console/tasks")))

    assert others == ["app"] * 3
    assert before == 0
    assert [answer.text for answer in found] == ["console"] * 3
    assert maker.calls == 1


async def test_a_console_that_could_not_be_made_is_made_by_the_next_request() -> None:
    maker = Maker(failures=1)
    async with client_of(maker) as client:
        with pytest.raises(OSError, match="too many open files"):
            await client.get("/console")
        again = await client.get("/console")

    assert again.text == "console"
    assert maker.calls == 2
