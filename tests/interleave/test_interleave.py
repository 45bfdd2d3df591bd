"""The search finds races between calls, and replays them."""

import math
from collections.abc import AsyncIterator, Iterator
from itertools import groupby

import pytest

from penstock.core.access import TENANT
from tests.interleave.acts import SITUATIONS, Situation, equal, task
from tests.interleave.explorer import Bounds, Footprint, Replay, Search
from tests.interleave.meeting import Death, Meeting, Stage
from tests.interleave.world import World, open_world
from tests.support import redis_server
from tests.support.monitor import WHOLE, Monitor, Touch, monitoring

ALL = Bounds()


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server.on_socket(tmp_path_factory.mktemp("between")) as path:
        yield path


@pytest.fixture
def monitor(socket: str) -> Iterator[Monitor]:
    with monitoring(socket) as opened:
        yield opened


@pytest.fixture
async def world(socket: str) -> AsyncIterator[World]:
    async with open_world(socket) as opened:
        yield opened


def touch(key: str, *, is_written: bool = True) -> Footprint:
    return frozenset([Touch(key.encode(), WHOLE, is_written)])


def orders(callers: list[list[Footprint]], bounds: Bounds = ALL) -> list[str]:
    """Returns all orders that the search tries, for callers who make these calls."""
    search, found = Search(bounds), []
    is_going = True
    while is_going:
        made = [0] * len(callers)
        while ready := tuple(n for n, calls in enumerate(callers) if made[n] < len(calls)):
            chosen = search.next_choice(ready)
            if chosen is None:
                break
            search.took(callers[chosen][made[chosen]])
            made[chosen] += 1
        else:
            found.append("".join(map(str, search.choices)))
        is_going = search.advance()
    return found


def test_all_orders_of_calls_that_touch_the_same_are_tried_once() -> None:
    found = orders([[touch("a")] * 3, [touch("a")] * 4])

    assert len(found) == len(set(found)) == math.comb(7, 3)


def test_of_calls_that_touch_nothing_in_common_one_order_is_tried() -> None:
    assert len(orders([[touch("a")] * 4, [touch("b")] * 4, [touch("c")] * 4])) == 1


def test_of_calls_that_only_read_the_same_one_order_is_tried() -> None:
    assert len(orders([[touch("a", is_written=False)] * 4] * 2)) == 1


def test_each_order_of_the_calls_that_do_conflict_is_tried() -> None:
    found = orders([[touch("x"), touch("shared"), touch("x")], [touch("y"), touch("y"), touch("shared")]])

    assert {place_of("0", 2, order) < place_of("1", 3, order) for order in found} == {True, False}
    assert len(found) == 2


def place_of(caller: str, call: int, order: str) -> int:
    """Returns the position in an order at which a caller makes its call of this number."""
    return [place for place, made_by in enumerate(order) if made_by == caller][call - 1]


def test_orders_with_more_changes_of_turns_than_allowed_are_not_tried() -> None:
    found = orders([[touch("a")] * 4, [touch("a")] * 4], Bounds(most_preemptions=1))

    assert found
    assert max(len(list(groupby(order))) for order in found) <= 3, "two turns, and one that was interrupted"


async def _look_then_delete(world: World, _: int) -> None:
    """A wrong act: checks that the result is shown by one task only, then deletes its file, and misses what comes
    between."""
    if (await world.store.tasks.get(task("a"), TENANT)).outcome.result and await _is_alone(world):
        await world.storage.delete(f"results/{TENANT}/{task('a')}/1.png", *(await _keys_of(world)))


async def _is_alone(world: World) -> bool:
    return not (await world.store.listing.page(TENANT, limit=2)).next_before


async def _keys_of(world: World) -> list[str]:
    outcome = (await world.store.tasks.get(task("a"), TENANT)).outcome
    return [outcome.result.first.s3_key] if outcome.result and outcome.result.first else []


async def _put_and_forget(world: World, _: int) -> None:
    """A wrong act: stores an object that no record names, and deletes it again."""
    await world.storage.put("inputs/default/nobodys", b"x", "image/png")
    await world.storage.delete("inputs/default/nobodys")


async def _a_has_a_result(world: World) -> None:
    situation = SITUATIONS["b-shows-the-result-of-a"]
    await situation.prepare(world)
    await situation.acts["delete-b"](world, 0)


PLANTED = {
    "a-has-a-result": Situation(
        _a_has_a_result, {"look-then-delete": _look_then_delete, "equal": equal("c"), "put": _put_and_forget}
    )
}


@pytest.fixture
def stage(world: World, monitor: Monitor) -> Stage:
    """A stage with acts that are wrong."""
    return Stage(world, monitor, PLANTED)


async def test_a_deletion_that_goes_by_an_old_look_is_found(stage: Stage) -> None:
    faults = await stage.explore(Meeting("a-has-a-result", ("look-then-delete", "equal")), ALL)

    assert any(what.startswith("SUCCESS without its result") for fault in faults for what in fault.what)


async def test_a_fault_replays_by_its_text(stage: Stage) -> None:
    fault = (await stage.explore(Meeting("a-has-a-result", ("look-then-delete", "equal")), ALL))[0]
    meeting, _, choices = fault.replay.rpartition(" ")

    assert await stage.play(Meeting.of(meeting), Replay(list(map(int, choices)))) == fault.what


async def test_what_a_dead_caller_leaves_behind_is_found(stage: Stage) -> None:
    alive = Meeting("a-has-a-result", ("put", "equal"))
    dying = alive._replace(death=Death(0, 1))

    assert await stage.explore(alive, ALL) == []
    (fault,) = await stage.explore(dying, ALL)
    assert "object without owner: inputs/default/nobodys" in fault.what
    assert Meeting.of(str(dying)) == dying


async def test_a_dead_caller_makes_no_further_call(stage: Stage) -> None:
    await stage.play(Meeting("a-has-a-result", ("put", "put"), Death(0, 1)), Replay([0, 1, 1]))

    assert [call.split(":")[0] for call in stage.calls] == ["0 put", "1 put", "1 put"]


async def test_the_same_choices_do_the_same(stage: Stage) -> None:
    meeting, made = Meeting("a-has-a-result", ("look-then-delete", "equal")), []

    for _ in range(2):
        await stage.play(meeting, Replay([0, 1, 0, 1]))
        made.append(stage.calls)

    assert made[0] == made[1]
