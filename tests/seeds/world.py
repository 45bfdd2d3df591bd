"""One installation: API processes, workers, Redis, a storage, clients and receivers."""

import asyncio
from collections.abc import Coroutine
from types import SimpleNamespace
from typing import Any

from penstock.core.access import TENANT
from penstock.core.task import State
from tests.seeds.clients import Clients, Receiver, Server
from tests.seeds.history import History
from tests.seeds.loop import SimulatedLoop, SimulatedProcess
from tests.seeds.network import Network
from tests.seeds.parts import NAMESPACE, Api, Worker
from tests.seeds.server import BlockingRedis
from tests.seeds.storage import SimulatedStorage
from tests.support.queue_snapshot import SNAPSHOT, Snapshot

APIS, WORKERS = (1, 1, 2), (1, 2, 3)
"""How many processes there are. With one of a kind nobody makes up for what it misses."""
MOST_SKEW_S = 30.0


class Hand(SimpleNamespace):
    """A worker process, and its worker."""

    process: SimulatedProcess
    worker: Worker


class World:
    """All parts of one run."""

    def __init__(self, loop: SimulatedLoop, redis: BlockingRedis, *, lines: bool = False) -> None:
        self.loop = loop
        self.history = History(loop, redis, lines=lines)
        self.network = Network(loop, redis, self.history.watch)
        self.storage = SimulatedStorage(loop)
        self.receiver = Receiver(loop, self.history)
        self.servers: list[Server] = []
        self.workers: list[Hand] = []
        self.clients = Clients(loop, self.history, self.servers)
        self._count = 0
        self._redis = redis
        self._doing: list[asyncio.Task[None]] = []
        for _ in range(loop.chance.choice(APIS)):
            self._start_api()
        for _ in range(loop.chance.choice(WORKERS)):
            self._start_worker()

    @property
    def processes(self) -> list[SimulatedProcess]:
        """The processes that live."""
        return [one.process for one in (*self.servers, *self.workers)]

    async def replace(self, process: SimulatedProcess, *, kindly: bool) -> None:
        """Kill a process, unless it has ended `kindly`, and start another one a little later."""
        self.history.note("ended" if kindly else "killed", process.name)
        process.kill()
        await asyncio.sleep(self.loop.chance.choice((0.01, 0.5, 2.0)))
        for server in tuple(self.servers):
            if server.process is process:
                self.servers.remove(server)
                self._start_api()
        for hand in tuple(self.workers):
            if hand.process is process:
                self.workers.remove(hand)
                was_seen = not kindly and self.loop.chance.random() < 0.5
                self._start_worker(dead=hand.worker.id if was_seen else "")

    def look(self) -> Snapshot:
        """The whole content of Redis now."""
        return Snapshot(self._redis.ask("EVAL", SNAPSHOT, 1, f"{{{NAMESPACE}}}:"))

    def is_at_rest(self) -> bool:
        """Whether no task waits or runs, no batch is fed and no message is owed."""
        live = [f"state:{TENANT}:{state}" for state in (State.PENDING, State.RUNNING)]
        keys = [*live, "feeding", "outbox", "outbox-prompt"]
        return all(not self._redis.ask("EXISTS", f"{{{NAMESPACE}}}:{key}") for key in keys)

    def _start_api(self) -> None:
        process, api = self._process("api"), Api()
        self.servers.append(Server(process=process, api=api))
        self._watch(process, process.start(api.run(self.storage, self.receiver.post), "main"))

    def _start_worker(self, dead: str = "") -> None:
        process = self._process("worker")
        worker = Worker(process.name)
        self.workers.append(Hand(process=process, worker=worker))
        self._watch(process, process.start(worker.run(self.storage, dead=dead), "main"))

    def _process(self, kind: str) -> SimulatedProcess:
        self._count += 1
        skew_s = self.loop.chance.uniform(-MOST_SKEW_S, MOST_SKEW_S)
        return SimulatedProcess(self.loop, f"{kind}-{self._count}", skew_s=skew_s)

    def _watch(self, process: SimulatedProcess, main: "asyncio.Task[None]") -> None:
        def ended(_: object) -> None:
            if not main.cancelled() and (error := main.exception()):
                self.history.faults.append(f"{process.name.partition('-')[0]} died of {error!r}")
            self.do(self.replace(process, kindly=True))

        main.add_done_callback(ended, context=self.loop.world.context)

    def do(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Do something outside of all processes."""
        task = self.loop.world.start(work, "does")
        self._doing.append(task)
        return task
