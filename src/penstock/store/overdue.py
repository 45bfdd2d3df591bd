"""Overdue: what ends tasks without a client or a worker: lost workers, limits of time, equal results, retention."""

import msgspec

from penstock.core.task import ErrorRecord, Reclaimed, State, Verb
from penstock.errors import DeadlineExceeded, PoisonInput, StartDeadlineExceeded, WorkerLost
from penstock.store.encoding import moves_of, outcome_of
from penstock.store.engine import Engine

REAPER_PAUSE_S = 3.0
"""The reaper runs every second. After a longer gap every lease first gets one full period, since Redis may have been
away and not the workers."""

FORGOTTEN_TOGETHER = 100
"""Tasks that one call of a script is asked to forget; it answers for as many as it had time for."""

DRAINED_KNOWN_MS = 86_400_000
"""A drained worker that has lost its connection is still drained when it comes back within a day."""

LATE = StartDeadlineExceeded("no worker was free to start this task in time")
OVERRUN = DeadlineExceeded("the task had not ended by its deadline")
_LOST = "the worker that ran this attempt died or went silent"
_POISON = "the worker died each time it ran this task; it is not tried again"


class Overdue:
    """Rounds that any process may run at any time. Each call does all there is to do, in scripts that hold Redis for
    some milliseconds each."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def reclaim(self, dead_worker: str = "", why: str = "") -> list[Reclaimed]:
        """Take back the tasks whose lease has ended, or all tasks of one worker that is known to be dead, and `why`.
        Whether that worker was stopping counts: then its death is no crash of theirs."""
        taken: list[Reclaimed] = []
        ending = f": {why}" if why else ""
        place = 0
        while place >= 0:
            place, *found = await self._engine.run(
                "reclaim",
                release_moves=moves_of(Verb.RELEASE),
                fail_moves=moves_of(Verb.FAIL),
                lease_ms=self._engine.lease_ms,
                longest_pause_ms=int(REAPER_PAUSE_S * 1000),
                max_crashes=self._engine.settings.max_crashes,
                dead_worker=dead_worker,
                lost_problem=msgspec.json.encode(ErrorRecord.of(WorkerLost(_LOST + ending))),
                poison_outcome=outcome_of(PoisonInput(_POISON + ending)),
                place=place,
            )
            rows = zip(found[::3], found[1::3], found[2::3], strict=True)
            taken += [Reclaimed(t.decode(), State(state.decode()), _model_name(m)) for t, state, m in rows]
        return taken

    async def expire(self) -> list[tuple[str, str]]:
        """End the tasks that were not started in time. Returns (id, model) of each."""
        found = await self._engine.run_to_end("expire", moves=moves_of(Verb.EXPIRE), outcome=outcome_of(LATE))
        return [(t.decode(), _model_name(m)) for t, m in zip(found[::2], found[1::2], strict=True)]

    async def overrun(self) -> list[tuple[str, str, State]]:
        """End the tasks that have not ended by their deadline. Returns (id, model, new state) of each."""
        found = await self._engine.run_to_end("overrun", moves=moves_of(Verb.OVERRUN), outcome=outcome_of(OVERRUN))
        rows = zip(found[::3], found[1::3], found[2::3], strict=True)
        return [(t.decode(), _model_name(m), State(state.decode())) for t, m, state in rows]

    async def answer_waiting(self, waiting: bytes = b"") -> int:
        """End the tasks that wait for results which are there: those that settle.lua has named in `waiting`, or all.
        Returns how many.

        The worker that brings a result does this at once; a round finds what a worker left behind that died then.
        """
        return sum(await self._engine.run_to_end("answer", moves=moves_of(Verb.REUSE), only=waiting))

    async def prune(self) -> int:
        """Forget all tasks whose retention is over, as `TaskStore.delete` does, and workers and callers that are long
        gone. Returns how many tasks."""
        await self._engine.run("tidy", gone_ms=DRAINED_KNOWN_MS)
        return sum(await self._engine.run_to_end("prune", most=FORGOTTEN_TOGETHER))


def _model_name(model: bytes) -> str:
    return model.decode(errors="replace")  # a damaged record may hold any bytes
