"""WorkerStore: the workers that are there, what they run, and the signals that they hear."""

from collections.abc import AsyncIterator, Iterable
from contextlib import suppress

import msgspec

from penstock.errors import WorkerNotFound
from penstock.store.answers import Running, WorkerInfo
from penstock.store.connection import listen
from penstock.store.engine import Engine
from penstock.store.records import UnreadableRecord, running_of, workers_of

ASKED_MS = 2000
"""An idle worker that has asked for a task and died is given none later than this."""


class WorkerStore:
    """Workers. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes; each may be
    repeated. A worker lists itself with each `LeaseStore.renew`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def listed(self) -> list[WorkerInfo]:
        """The workers that have renewed within their lease."""
        rows, drained = await self._engine.pipelined(
            [("HGETALL", self._keys.workers), ("ZRANGE", self._keys.drained, 0, -1)]
        )
        return workers_of(rows.values(), drained)

    async def running(self, tenant: str | None) -> list[Running]:
        """The running tasks of this tenant, or of all; the one whose lease lasts longest comes first."""
        (ids,) = await self._engine.pipelined([("ZREVRANGE", self._keys.running, 0, -1)])
        names = [task_id.decode() for task_id in ids]
        fields = ("tenant", "worker", "state", "model", "priority", "stage", "claimed", "done", "total", "unit")
        rows = await self._engine.pipelined([("HMGET", self._keys.task(name), *fields) for name in names])
        found: list[Running] = []
        for name, row in zip(names, rows, strict=True):
            if tenant is None or row[0] == tenant.encode():
                with suppress(UnreadableRecord):
                    found += [one] if (one := running_of(name, row)) else []
        return found

    async def drain(self, worker: str) -> None:
        """Let a worker claim nothing more. Raises WorkerNotFound."""
        await self._tell(worker, "drain")

    async def resume(self, worker: str) -> None:
        """Let a drained worker claim again. Raises WorkerNotFound."""
        await self._tell(worker, "resume")

    async def sign_off(self, worker: str) -> None:
        """Take a worker off the list."""
        await self._engine.run("renew", worker=worker, description="", lease_ms=0, models="", leases=[])

    async def list_down(self, info: WorkerInfo, keep_s: float) -> None:
        """List a worker that cannot run, for so long. It serves no model."""
        description = msgspec.json.encode(info)
        await self._engine.run(
            "renew", worker=info.id, description=description, lease_ms=int(keep_s * 1000), models="", leases=[]
        )

    async def ask_for_task(self, worker: str, models: Iterable[str]) -> None:
        """Say that this worker is idle and finds nothing. Another worker that holds a task of these models which has
        not begun, and may wait long, gives it back. The request is forgotten after ASKED_MS."""
        asks = ("SET", self._keys.asking(worker), "", "PX", ASKED_MS)
        await self._engine.write(
            [asks, self._engine.publication(self._keys.signals, " ".join(["idle", worker, *models]))]
        )

    async def answer_ask(self, worker: str) -> bool:
        """Take over the request of that worker for a task. Returns False when another worker has taken it, or it is
        forgotten."""
        return await self._engine.pipelined([("DEL", self._keys.asking(worker))]) == [1]

    async def signals(self) -> AsyncIterator[tuple[str, str]]:
        """Yields (`queued`, model), (`cancel`, key of the lease), (`drain`, worker), (`resume`, worker) and (`idle`, a
        worker and its models) as they happen; (`look`, "") when some may have been missed."""
        async for message in listen(self._engine.client, self._keys.signals):
            kind, _, subject = message.partition(" ")
            yield kind or "look", subject

    async def _tell(self, worker: str, act: str) -> None:
        if not await self._engine.run("drain", worker=worker, act=act):
            raise WorkerNotFound("there is no such worker; GET /v1/workers lists them")
