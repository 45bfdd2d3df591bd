"""Meetings: some acts in one situation, in one order or in all, with at most one caller who dies."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations_with_replacement
from typing import NamedTuple, Protocol

from tests.interleave.acts import SITUATIONS, Situation, delete_everything
from tests.interleave.callers import Caller
from tests.interleave.explorer import Bounds, Footprint, Search
from tests.interleave.invariants import broken, left_behind
from tests.interleave.world import Saved, World, begin
from tests.support.monitor import Monitor, touches

_BY_CHANCE = re.compile(r"[0-9a-f]{8,}")
"""Random words: fences, and parts of ids and keys."""


class Death(NamedTuple):
    """A caller is killed after this many calls."""

    caller: int
    after: int


class Meeting(NamedTuple):
    """The acts that meet, and the death, if any."""

    situation: str
    acts: tuple[str, ...]
    death: Death | None = None

    def __str__(self) -> str:
        death = f" dies={self.death.caller}@{self.death.after}" if self.death else ""
        return f"{self.situation} {'+'.join(self.acts)}{death}"

    @classmethod
    def of(cls, text: str) -> "Meeting":
        """Parses the text of a meeting."""
        situation, acts, *deaths = text.split()
        died = [Death(*map(int, one.removeprefix("dies=").split("@"))) for one in deaths]
        return cls(situation, tuple(acts.split("+")), died[0] if died else None)


class Order(Protocol):
    """Decides who goes on, call by call."""

    def next_choice(self, ready: tuple[int, ...]) -> int | None:
        """Returns one of these callers, or None to give up."""

    def took(self, footprint: Footprint) -> None:
        """Receives what the call of the chosen caller has read and written."""


class Fault(NamedTuple):
    """A broken invariant, and the meeting with its choices."""

    what: tuple[str, ...]
    replay: str


def meetings(size: int) -> list[Meeting]:
    """Returns all combinations of this many acts in each situation, also an act with itself."""
    return [
        Meeting(name, acts)
        for name, situation in SITUATIONS.items()
        for acts in combinations_with_replacement(situation.acts, size)
    ]


class Stage:
    """Plays meetings on a world."""

    def __init__(self, world: World, monitor: Monitor, situations: Mapping[str, Situation] = SITUATIONS) -> None:
        self._world = world
        self._monitor = monitor
        self._known = situations
        self._situations: dict[str, Saved] = {}
        self._judged: dict[bytes, tuple[str, ...]] = {}
        self.runs = 0
        self.calls: list[str] = []
        """The calls of the last run, each with its caller."""
        self.steps: dict[Meeting, list[int]] = {}
        """The most calls that each caller of a meeting has made."""

    @property
    def ends(self) -> int:
        """The number of different end states that were checked."""
        return len(self._judged)

    async def play(self, meeting: Meeting, order: Order) -> tuple[str, ...] | None:
        """Plays one order and returns what is wrong at its end; None if it was given up, because it equals an
        earlier one."""
        world = self._world
        world.beginning = await self._situation(meeting.situation)
        await world.beginning.bring_back(world)
        self._monitor.since()
        acts = self._known[meeting.situation].acts
        callers = [Caller(partial(acts[name], world, number)) for number, name in enumerate(meeting.acts)]
        try:
            for caller in callers:
                await caller.rest()
            self.runs += 1
            self.calls = []
            is_new = await self._step_by_step(meeting, callers, order)
            return await self._judge(meeting, callers) if is_new else None
        finally:
            for caller in callers:
                await caller.die()

    async def explore(self, meeting: Meeting, bounds: Bounds) -> list[Fault]:
        """Plays all orders within the bounds and returns each fault once."""
        search = Search(bounds)
        found: dict[tuple[str, ...], Fault] = {}
        is_going = True
        while is_going:
            if what := await self.play(meeting, search):
                found.setdefault(what, Fault(what, f"{meeting} {''.join(map(str, search.choices))}"))
            is_going = search.advance()
        return list(found.values())

    def deaths(self, meeting: Meeting) -> Iterator[Meeting]:
        """Returns the same callers with each possible death: after each of a caller's calls but the last, as far as
        they were seen."""
        for caller, steps in enumerate(self.steps.get(meeting, ())):
            for after in range(1, steps):
                yield meeting._replace(death=Death(caller, after))

    async def _situation(self, name: str) -> Saved:
        if name not in self._situations:
            await begin(self._world)
            await self._known[name].prepare(self._world)
            self._situations[name] = await Saved.of(self._world)
        return self._situations[name]

    async def _step_by_step(self, meeting: Meeting, callers: list[Caller], order: Order) -> bool:
        """Returns False if the order was given up."""
        while ready := tuple(number for number, caller in enumerate(callers) if not caller.is_done):
            chosen = order.next_choice(ready)
            if chosen is None:
                return False
            caller = callers[chosen]
            await caller.step()
            order.took(touches(self._monitor.since()) | caller.touched)
            self.calls.append(f"{chosen} {meeting.acts[chosen]}: {caller.last_call}")
            if meeting.death == (chosen, caller.steps):
                await caller.die()
        seen = self.steps.setdefault(meeting, [0] * len(callers))
        self.steps[meeting] = [max(most, caller.steps) for most, caller in zip(seen, callers, strict=True)]
        return True

    async def _judge(self, meeting: Meeting, callers: list[Caller]) -> tuple[str, ...]:
        """Checks each end state once, since two orders often end in the same one."""
        raised = tuple(f"{type(c.fault).__name__}: {c.fault}" for c in callers if c.fault)
        snapshot, objects = await self._world.look(), dict(self._world.storage.objects)
        end = _digest([snapshot.keys, sorted(objects), await self._world.now_ms()])
        if end not in self._judged:
            faults = broken(snapshot, objects)
            await delete_everything(self._world)
            stay = self._world.storage.objects if not self._known[meeting.situation].writes_get_lost else {}
            faults += left_behind(await self._world.look(), stay)
            self._judged[end] = tuple(faults)
        return raised + self._judged[end]


def _digest(state: object) -> bytes:
    """Returns the same digest for states that differ only in random ids, which it replaces by their order."""
    words: dict[str, int] = {}
    said = json.dumps(state, sort_keys=True, default=repr)
    named = _BY_CHANCE.sub(lambda found: f"#{words.setdefault(found[0], len(words))}", said)
    return hashlib.sha256(named.encode()).digest()
