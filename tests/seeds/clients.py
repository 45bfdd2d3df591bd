"""The clients and the receivers of webhooks: they send requests over a network that loses some, and repeat them."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from types import SimpleNamespace
from typing import Any, TypeVar

import msgspec

from penstock.api.services import Services
from penstock.core.access import TENANT, Caller
from penstock.core.batch import BatchPlan, StoredLine, new_batch_id, part_key
from penstock.core.events import Webhook
from penstock.core.task import PRIORITIES, new_task_id
from penstock.errors import PenstockError
from penstock.intake.call import SubmitCall
from penstock.intake.enqueue import enqueue
from penstock.intake.examine import Examined
from penstock.intake.found import Found
from penstock.intake.given import given_of
from penstock.intake.requests import TaskRequest
from penstock.webhooks.sender import PostOutcome
from tests.seeds.history import Accepted, History, Told
from tests.seeds.loop import SimulatedLoop, SimulatedProcess
from tests.seeds.parts import MODEL, Api

T = TypeVar("T")

CALLERS = (Caller("alice", TENANT), Caller("bob", TENANT))
EVENTS = ("succeeded", "failed", "canceled", "expired")
GIVES_UP_S = 3.0
"""How long a client waits for an answer before it asks again."""


class Lost(Exception):
    """No answer came: the request may have been done or not."""


class Server(SimpleNamespace):
    """An API process as clients see it."""

    process: SimulatedProcess
    api: Api


class Clients:
    """All clients. `servers` are the API processes that are up or were."""

    def __init__(self, loop: SimulatedLoop, history: History, servers: list[Server]) -> None:
        self.loop, self.history, self.servers = loop, history, servers
        self.chance = loop.chance
        self.known: list[str] = []
        self._count = 0

    async def request(self, work: Callable[[Services], Awaitable[T]], within_s: float = GIVES_UP_S) -> T:
        """Have an API process do this. Raises Lost, and the PenstockError that it answers."""
        server = self.chance.choice(self.servers)
        await self._travel()
        services = server.api.services
        if server.process.is_dead or services is None:
            raise Lost
        answer: asyncio.Future[T] = self.loop.create_future()

        async def handle() -> None:
            try:
                value = await work(services)
            except PenstockError as error:
                _give(answer, error=error)
            else:
                _give(answer, value)

        server.process.on_death.append(lambda: _give(answer, error=Lost()))
        server.process.start(handle(), "request")
        try:
            async with asyncio.timeout(within_s):
                value = await answer
        except TimeoutError:
            raise Lost from None
        await self._travel()
        return value

    async def insist(self, work: Callable[[Services], Awaitable[T]]) -> T | None:
        """Repeat a request until it is answered, as a client does that names it; None when it is refused for good."""
        while True:
            try:
                return await self.request(work)
            except Lost:
                self.history.note("request-lost")
            except PenstockError as error:
                if not error.retryable:
                    return None
            await asyncio.sleep(self.chance.uniform(0.05, 0.5))

    async def submit(self, *, ends: str | None = None, ms: int | None = None, calm: bool = False) -> str | None:
        """Submit a task. Returns its id; None when it was refused, or nobody knows whether it was accepted."""
        chance = self.chance
        self._count += 1
        number, caller = self._count, CALLERS[0] if calm else chance.choice(CALLERS)
        ends = ends or chance.choice(("well",) * 6 + ("badly", "flaky", "flaky"))
        may_expire = not calm and chance.random() < 0.15
        request = TaskRequest(
            model=MODEL.name,
            input={"image_url": "data:,"},
            params={"ends": ends, "ms": chance.choice((1, 5, 20, 100, 800, 4000)) if ms is None else ms},
            priority=chance.choice(PRIORITIES),
            client_request_id=f"request-{number}",
            start_within_s=chance.choice((1, 3)) if may_expire else None,
            finish_within_s=chance.choice((None, 2)) if may_expire else None,
        )
        has_hook = calm or chance.random() < 0.5
        hook = Webhook(url=f"https://h{chance.randrange(2)}.example/", events=EVENTS, base_url="")
        examined = Examined(
            cost=chance.randrange(1, 50),
            fingerprint=f"{number}",
            found=(Found(given=given_of(request.input, MODEL)[0], data=b"i"),),
            reuse_digest=f"{caller.id}-{chance.randrange(3)}-{ends}" if not calm and chance.random() < 0.3 else None,
            webhook=hook if has_hook else None,
        )
        call = SubmitCall(
            caller=caller, task=request, model=MODEL, params=request.params, given=given_of(request.input, MODEL),
            base_url="", traceparent="",
        )  # fmt: skip
        if (answer := await self.insist(lambda services: enqueue(new_task_id(), call, examined, services))) is None:
            return None
        self.known.append(answer.id)
        accepted = Accepted(answer.id, self.loop.time(), ends, has_hook, may_expire)
        self.history.accepted[answer.id] = accepted
        self.history.note("accepted", answer.id)
        return answer.id

    async def cancel(self) -> None:
        """Cancel some task."""
        task_id = self.chance.choice(self.known)
        self.history.cancels.add(task_id)
        await self.insist(lambda services: services.store.tasks.cancel(task_id, TENANT))

    async def run_again(self) -> None:
        """Have some task run again, if it has failed."""
        task_id = self.chance.choice(self.known)
        self.history.again.add(task_id)
        await self.insist(lambda services: services.store.tasks.resubmit(task_id, TENANT))

    async def batch(self, *, calm: bool = False) -> str | None:
        """Start a batch, and perhaps cancel it. Returns its id; None when nobody knows whether it was started."""
        chance = self.chance
        batch_id, total = new_batch_id(), chance.randrange(1, 10)
        times_ms = (1, 5) if calm else (1, 20, 100)
        lines = b"\n".join(_line(number, chance.choice(times_ms)) for number in range(1, total + 1))
        hook = Webhook(url="https://hb.example/", events=("completed", "canceled"), base_url="")
        plan = BatchPlan(defaults={"model": MODEL.name}, starts=(0,), base_url="", traceparent="", webhook=hook)

        async def start(services: Services) -> bool:
            batches = services.store.batches
            await batches.open(batch_id, TENANT, "alice", rate_limit=0, most=50, client_request_id=batch_id)
            await batches.grow(batch_id, 1, len(lines))
            await services.storage.put(part_key(TENANT, batch_id, 0), lines, "application/jsonl")
            await batches.start(batch_id, TENANT, "alice", plan, total=total, ttl_s=86_400, fingerprint=batch_id)
            return True

        try:
            await self.request(start)
        except (Lost, PenstockError):
            return None
        self.history.batches[batch_id] = total
        self.history.note("batch", batch_id, total)
        if not calm and chance.random() < 0.3:
            await asyncio.sleep(chance.uniform(0, 2))
            self.history.cancels.add(batch_id)
            await self.insist(lambda services: services.store.batches.cancel(batch_id, TENANT))
        return batch_id

    async def live(self, until_s: float) -> None:
        """Do one thing after the other."""
        pause_s = self.chance.choice((0.05, 0.3, 1.0))
        while self.loop.time() < until_s:
            await asyncio.sleep(self.chance.expovariate(1 / pause_s))
            roll = self.chance.random()
            if roll < 0.75 or not self.known:
                await self.submit()
            elif roll < 0.85:
                await self.cancel()
            elif roll < 0.9:
                await self.run_again()
            else:
                await self.batch()

    async def _travel(self) -> None:
        await asyncio.sleep(self.chance.uniform(0.0002, 0.002))


class Receiver:
    """Receives the messages of all webhooks; at times it answers wrongly, late, or not at all."""

    def __init__(self, loop: SimulatedLoop, history: History) -> None:
        self.is_wrong = False
        self._loop, self._history = loop, history

    async def post(self, url: str, headers: Mapping[str, str], body: str) -> PostOutcome:
        """Take a message, and return what its sender sees."""
        chance = self._loop.chance
        await asyncio.sleep(chance.uniform(0.0005, 0.005))
        if self.is_wrong and chance.random() < 0.4:
            return PostOutcome(verdict="busy", code=503)
        said: dict[str, Any] = json.loads(body)
        self._history.told.append(Told(self._loop.time(), said["subject"], said["type"], said["seq"]))
        self._history.note("told", said["subject"], said["type"], said["seq"])
        if self.is_wrong and chance.random() < 0.4:
            await asyncio.sleep(chance.uniform(0, 4))
            return PostOutcome(verdict="timeout")
        await asyncio.sleep(chance.uniform(0.0005, 0.005))
        return PostOutcome(verdict="delivered", code=200)


def _give(answer: "asyncio.Future[Any]", value: Any = None, error: BaseException | None = None) -> None:
    if answer.done():
        return
    if error is None:
        answer.set_result(value)
    else:
        answer.set_exception(error)


def _line(number: int, ms: int) -> bytes:
    said = {"custom_id": f"line-{number}", "params": {"ms": ms}, "input": {"image_url": "data:image/png;base64,aQ=="}}
    return msgspec.json.encode(StoredLine(number, msgspec.Raw(msgspec.json.encode(said)), ("PNG", 8, 8)))
