"""What the seeds stand on: the loop and its processes. One seed is run twice here; `just seeds` runs many."""

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.seeds.loop import SimulatedLoop, SimulatedProcess
from tests.seeds.run import run
from tests.seeds.server import BlockingRedis, simulated_scripts
from tests.support import redis_server


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[BlockingRedis]:
    with redis_server.on_socket(tmp_path) as socket, simulated_scripts():
        opened = BlockingRedis(socket)
        yield opened
        opened.close()


def played(loop: SimulatedLoop, story: Coroutine[Any, Any, None]) -> None:
    """Runs a story outside of all processes, to its end."""
    try:
        loop.run_until_complete(loop.world.start(story, "story"))
    finally:
        loop.end()


async def say(said: list[str], *words: str, every_s: float = 0.0) -> None:
    for word in words:
        await asyncio.sleep(every_s)
        said.append(word)


async def say_until_the_end(said: list[str]) -> None:
    try:
        await asyncio.sleep(3600)
    finally:
        said.append("ended")


def test_an_hour_is_over_at_once() -> None:
    loop = SimulatedLoop(1)

    played(loop, say([], "late", every_s=3600))

    assert loop.time() == 3600


def test_turns_of_processes_come_in_another_order_by_another_seed_and_in_the_same_by_the_same() -> None:
    def order(seed: int) -> str:
        loop, said = SimulatedLoop(seed), list[str]()

        async def story() -> None:
            for name in "abc":
                SimulatedProcess(loop, name).start(say(said, *(f"{name}{n}" for n in range(4))), "talk")
            await asyncio.sleep(1)

        played(loop, story())
        assert all([word for word in said if word[0] == name] == [f"{name}{n}" for n in range(4)] for name in "abc")
        return " ".join(said)

    assert order(7) == order(7)
    assert len({order(seed) for seed in range(10)}) > 5


def test_a_frozen_process_has_no_turn_until_it_goes_on() -> None:
    loop, said = SimulatedLoop(1), list[str]()

    async def story() -> None:
        process = SimulatedProcess(loop, "a")
        process.start(say(said, "first", "second", every_s=1.0), "talk")
        await asyncio.sleep(1.5)
        process.freeze()
        await asyncio.sleep(10)
        assert said == ["first"]
        process.thaw()
        await asyncio.sleep(0.1)

    played(loop, story())

    assert said == ["first", "second"]


def test_a_killed_process_does_nothing_more_not_even_at_its_end() -> None:
    loop, said = SimulatedLoop(1), list[str]()

    async def story() -> None:
        process = SimulatedProcess(loop, "a")
        process.start(say_until_the_end(said), "wait")
        await asyncio.sleep(1)
        process.kill()
        await asyncio.sleep(7200)
        assert said == []

    played(loop, story())


def test_a_seed_does_the_same_twice_and_no_rule_is_broken(redis: BlockingRedis) -> None:
    first, second = run(3, redis), run(3, redis)

    assert first.faults == []
    assert (first.digest, first.commands, first.seconds) == (second.digest, second.commands, second.seconds)
