"""What an operator does to queues and workers: pause, purge, drain."""

from collections.abc import Iterable

from penstock.core.task import TRANSITIONS, Priority, State, Verb
from penstock.errors import WorkerNotFound
from penstock.store.answers import Purged
from penstock.store.queries import Queries

PURGED_TOGETHER = 100
"""Tasks that one script looks at, which holds Redis meanwhile: about 30 µs for each that it cancels."""

_WAITING_ONLY = f"{State.PENDING}>{TRANSITIONS[State.PENDING, Verb.CANCEL]}"


class Operator(Queries):
    """Every method raises StoreUnavailable when Redis cannot be reached or refuses writes; each may be repeated."""

    async def pause(self, model: str, priorities: Iterable[Priority], *, by: str) -> int:
        """Let no task of these queues start any more; how many queues were not paused before."""
        return await self._pause(model, priorities, by)

    async def resume(self, model: str, priorities: Iterable[Priority]) -> int:
        """Let them go on; how many were paused."""
        return await self._pause(model, priorities, "")

    async def purge(self, tenant: str, model: str, priorities: Iterable[Priority], *, limit: int) -> Purged:
        """Cancel the tasks of these queues that were waiting when this began, newest first, until there is no other or
        at least `limit` are canceled; none that runs."""
        canceled, before, wanted = 0, "+inf", " ".join(priorities)
        while before and canceled < limit:
            count, rest = await self._run("purge", _WAITING_ONLY, tenant, model, wanted, before, PURGED_TOGETHER)
            canceled, before = canceled + count, rest.decode()
        return Purged(canceled, bool(before))

    async def drain(self, worker: str) -> None:
        """Let a worker claim nothing more. Raises WorkerNotFound."""
        await self._tell(worker, "drain")

    async def resume_worker(self, worker: str) -> None:
        """Let it claim again. Raises WorkerNotFound."""
        await self._tell(worker, "resume")

    async def _pause(self, model: str, priorities: Iterable[Priority], by: str) -> int:
        changed = int(await self._run("pause", model, " ".join(priorities), by))
        place = 0
        while place >= 0:
            place = await self._run("regroup", model, place)
        return changed

    async def _tell(self, worker: str, what: str) -> None:
        if not await self._run("drain", worker, what):
            raise WorkerNotFound("there is no such worker; GET /v1/workers lists them")
