"""The methods of `AsyncClient` about models, workers and queues."""

from collections.abc import Sequence
from datetime import date

import msgspec

from penstock.client.model_views import FaultyModel, Model, ModelList
from penstock.client.operator_views import Purged, Queue, QueueList, Stats, Worker, WorkerList
from penstock.client.problems import PenstockApiError
from penstock.client.record_views import Readiness, ServerSettings
from penstock.client.requests import segment
from penstock.client.transport import Transport, decoded
from penstock.client.usage_views import UsageReport

NOT_READY = "not_ready"


class Administration:
    """Reads and changes the state of a server."""

    _transport: Transport

    async def models(self) -> Sequence[Model]:
        """Returns the models that the server runs, each with its versions."""
        return (await self.catalogue()).data

    async def faulty_models(self) -> Sequence[FaultyModel]:
        """Returns the versions that workers have found and cannot serve."""
        return (await self.catalogue()).faulty

    async def catalogue(self) -> ModelList:
        """Returns what `models` and `faulty_models` do, in one call."""
        return await self._transport.ask("GET", "/v1/models", ModelList)

    async def model(self, name: str) -> Model:
        """Returns the default version of a model, or a certain one for `name@version`."""
        return await self._transport.ask("GET", f"/v1/models/{segment(name)}", Model)

    async def set_default_model(self, name: str, version: str) -> Model:
        """Makes the version the one that `name` means. Tasks that were submitted keep theirs. It may be called
        again."""
        body = msgspec.json.encode({"version": version})
        return await self._transport.ask("PUT", f"/v1/models/{segment(name)}/default", Model, body=body)

    async def load_model(self, name: str) -> Model:
        """Lets the workers load a model, `name` or `name@version`, before its first task comes, and does not wait for
        it. It may be called again."""
        return await self._act_on_model(name, "load")

    async def unload_model(self, name: str) -> Model:
        """Lets the workers give back the memory of a model, `name` or `name@version`, when its running tasks have
        ended; the next task loads it again. It may be called again."""
        return await self._act_on_model(name, "unload")

    async def workers(self) -> Sequence[Worker]:
        """Returns the workers that reported within their lease."""
        return (await self._transport.ask("GET", "/v1/workers", WorkerList)).data

    async def drain_worker(self, worker_id: str) -> Worker:
        """Lets a worker finish its tasks and claim no more. It may be called again."""
        return await self._act_on_worker(worker_id, "drain")

    async def resume_worker(self, worker_id: str) -> Worker:
        """Lets a drained worker claim tasks again. It may be called again."""
        return await self._act_on_worker(worker_id, "resume")

    async def queues(self) -> Sequence[Queue]:
        """Returns the queues of all models, highest priority first."""
        return (await self._transport.ask("GET", "/v1/queues", QueueList)).data

    async def pause_queue(self, model: str, *, priority: str | None = None) -> Sequence[Queue]:
        """Stops starting tasks of a model, of one priority or of all, and returns its queues."""
        return await self._act_on_queue(model, "pause", priority)

    async def resume_queue(self, model: str, *, priority: str | None = None) -> Sequence[Queue]:
        """Starts tasks of a model again, of one priority or of all, and returns its queues."""
        return await self._act_on_queue(model, "resume", priority)

    async def purge_queue(self, model: str, *, priority: str | None = None, dry_run: bool = False) -> int:
        """Cancels the waiting tasks of a model, of one priority or of all, and returns their number; running tasks go
        on. With `dry_run` nothing is changed, and the number is that of those that would be, 100,000 at most."""
        path, query = f"/v1/queues/{segment(model)}/purge", {"priority": priority}
        query |= {"dry_run": "true", "limit": "100000"} if dry_run else {}
        matched, has_more = 0, True
        while has_more:
            purged = await self._transport.ask("POST", path, Purged, query=query)
            matched, has_more = matched + purged.matched, purged.has_more and not dry_run
        return matched

    async def usage(
        self, *, tenant: str | None = None, first: date | str | None = None, last: date | str | None = None
    ) -> UsageReport:
        """Returns what a tenant holds and has used from the day `first` (the 1st of this month) to the day `last`
        (today), in UTC: the tenant of the key, or another one, or every one as `*`, for a key with the scope
        `operate`."""
        query = {"tenant": tenant, "from": first and str(first), "to": last and str(last)}
        return await self._transport.ask("GET", "/v1/usage", UsageReport, query=query)

    async def stats(self) -> Stats:
        """Returns the number of tasks by status, the queues, and the number of workers by state."""
        return await self._transport.ask("GET", "/v1/stats", Stats)

    async def readiness(self) -> Readiness:
        """Returns whether the server can work, and what delays tasks, also when it cannot."""
        try:
            return decoded(await self._transport.send("GET", "/readyz", repeat=False), Readiness)
        except PenstockApiError as error:
            if error.code != NOT_READY:
                raise
            return Readiness(status=NOT_READY, detail=error.detail)

    async def server_settings(self) -> ServerSettings:
        """Returns the settings of the server without secrets, for a key with the scope `operate`."""
        return await self._transport.ask("GET", "/v1/settings", ServerSettings)

    async def _act_on_model(self, name: str, act: str) -> Model:
        return await self._transport.ask("POST", f"/v1/models/{segment(name)}/{act}", Model)

    async def _act_on_worker(self, worker_id: str, act: str) -> Worker:
        return await self._transport.ask("POST", f"/v1/workers/{segment(worker_id)}/{act}", Worker)

    async def _act_on_queue(self, model: str, act: str, priority: str | None) -> Sequence[Queue]:
        path = f"/v1/queues/{segment(model)}/{act}"
        return (await self._transport.ask("POST", path, QueueList, query={"priority": priority})).data
