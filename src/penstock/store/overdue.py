"""What ends tasks by itself: deaths of workers, limits of time, results of equal tasks, and the end of retention."""

from collections.abc import Collection
from functools import cache

import msgspec

from penstock.core.task import Outcome, Problem, Reclaimed, State, Verb, moves
from penstock.errors import (
    DeadlineExceeded,
    PenstockError,
    PoisonInput,
    StartDeadlineExceeded,
    WorkerLost,
)
from penstock.store.queries import Queries

REAPER_PAUSE_S = 3.0
"""The reaper runs every second; after a longer gap leases are first given one full period."""

TOGETHER = 100
"""Tasks that one call of a script is asked to forget; it answers for as many as it could."""

DRAINED_KNOWN_MS = 86_400_000
"""A drained worker that has lost its connection is still drained when it is back within a day."""

STATES = tuple(State)

_LOST = WorkerLost("the worker that ran this attempt died or went silent")
_POISON = PoisonInput("the worker died each time it ran this task; it is not tried again")
LATE = StartDeadlineExceeded("no worker was free to start this task in time")
OVERRUN = DeadlineExceeded("the task had not ended by its deadline")


class Overdue(Queries):
    """The part of TaskStore that is called again and again, by anyone: each call does all that there is to do, in
    scripts that hold Redis for some milliseconds each."""

    async def reclaim(self, dead_worker: str = "") -> list[Reclaimed]:
        """Take back tasks whose lease has ended, or all of one worker known to be dead."""
        taken: list[Reclaimed] = []
        place = 0
        while place >= 0:
            place, *found = await self._run(
                "reclaim",
                moves_of(Verb.RELEASE), moves_of(Verb.FAIL), self._lease_ms, int(REAPER_PAUSE_S * 1000),
                self._settings.max_crashes, dead_worker, msgspec.json.encode(Problem.of(_LOST)), outcome_of(_POISON),
                place,
            )  # fmt: skip
            rows = zip(found[::3], found[1::3], found[2::3], strict=True)
            taken += [Reclaimed(t.decode(), State(state.decode()), _name(m)) for t, state, m in rows]
        return taken

    async def expire(self) -> list[tuple[str, str]]:
        """End the tasks that were not started in time; (id, model) of each."""
        found = await self._run_to_end("expire", moves_of(Verb.EXPIRE), outcome_of(LATE))
        return [(t.decode(), _name(m)) for t, m in zip(found[::2], found[1::2], strict=True)]

    async def overrun(self) -> list[tuple[str, str, State]]:
        """End the tasks that have not ended by their deadline; (id, model, new state) of each."""
        found = await self._run_to_end("overrun", moves_of(Verb.OVERRUN), outcome_of(OVERRUN))
        rows = zip(found[::3], found[1::3], found[2::3], strict=True)
        return [(t.decode(), _name(m), State(state.decode())) for t, m, state in rows]

    async def answer_waiting(self, waiting: bytes = b"") -> int:
        """End the tasks that wait for results which are there, or for the one that settle.lua has named; how many. Who
        brings a result does so at once; what a worker that has died then left is found here."""
        return sum(await self._run_to_end("answer", moves_of(Verb.REUSE), waiting))

    async def prune(self) -> int:
        """Forget all tasks whose time is over, as `delete` does, and workers and callers that are long gone; how many
        tasks."""
        await self._run("tidy", DRAINED_KNOWN_MS)
        return sum(await self._run_to_end("prune", TOGETHER))


def _name(model: bytes) -> str:
    """That of a damaged record may be anything."""
    return model.decode(errors="replace")


@cache
def moves_of(verb: Verb) -> str:
    """In the form that scripts take."""
    return " ".join(f"{source}>{target}" for source, target in moves(verb).items())


def moves_from(states: Collection[State], verb: Verb) -> str:
    """The same, of tasks in these states only."""
    return " ".join(f"{source}>{target}" for source, target in moves(verb).items() if source in states)


def outcome_of(error: PenstockError) -> bytes:
    return msgspec.json.encode(Outcome(error=Problem.of(error)))
