"""A world of real processes: Redis, APIs, workers, perhaps S3, and a bad network between them."""

import asyncio
import os
import random
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import httpx
from msgspec import Struct

from penstock.settings import StorageSettings
from tests.chaos.client import API_KEY, Client
from tests.chaos.history import History, worker_facts
from tests.chaos.models import MODEL
from tests.chaos.parts import READY_WITHIN_S, ROOT, Api, Host, RedisServer
from tests.chaos.proxy import Proxy
from tests.support.places import HERE, Place, PlaceOf
from tests.support.redis_fleets import RedisFleet

T = TypeVar("T")

INLINE_BUDGET_BYTES = 64 * 1024
"""Room in Redis for the inputs of some nine tasks: a run has inputs there, in the storage, and on their way between."""


class Setup(Struct, frozen=True, kw_only=True):
    """The parts of a world. `env` has settings of Penstock by their names after `PENSTOCK_`."""

    workers: int = 4
    apis: int = 1
    s3: bool = False
    env: dict[str, str] = {}
    environ: dict[str, str] = {}
    """Environment variables of servers and workers, besides the settings."""
    environ_of: dict[str, dict[str, str]] = {}
    """More of them for single servers and workers, by their names."""
    redis_environ: dict[str, str] = {}
    redis_data: Path | None = None
    redis_options: dict[str, str] = {}
    fleet: Callable[[Path, bool, PlaceOf], RedisFleet] | None = None
    """Makes several servers of Redis that take over from one another, in place of the one; the second argument says
    that they are to do so soon, since the run is short, the third one where each of them runs. There is no bad network
    on the way to them."""
    objects: Path | None = None


class World:
    """All processes of a run; all of them are dead at its end."""

    def __init__(self, setup: Setup, *, seed: int, directory: Path, is_short: bool = False) -> None:
        self.setup = setup
        self.rng = random.Random(seed)
        self.directory = directory
        self.history = History(directory / "history.jsonl")
        self.redis = RedisServer(
            directory,
            data=setup.redis_data,
            environ=setup.redis_environ,
            place=self.place_of("redis"),
            **setup.redis_options,
        )
        self._fleet = setup.fleet(directory / "fleet", is_short, self.place_of) if setup.fleet else None
        self.links: dict[str, Proxy] = {}
        self.apis: list[Api] = []
        self.hosts: list[Host] = []
        self.s3: StorageSettings | None = None
        self.s3_link: Proxy | None = None
        self._s3_endpoint = ""
        self.resting: set[str] = set()
        """URLs that clients leave alone."""
        self._collected: dict[str, int] = {}
        self._stack = AsyncExitStack()
        self._servers = ExitStack()

    async def __aenter__(self) -> "World":
        try:
            await self._start()
        except BaseException:
            await self.__aexit__()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        for part in (*self.hosts, *self.apis, self._fleet or self.redis):
            part.kill()
        self._servers.close()
        await self._stack.aclose()
        for link in (*self.links.values(), *([self.s3_link] if self.s3_link else [])):
            await link.close()
        self.history.close()

    def place_of(self, name: str) -> Place:
        """Where the process of this name runs."""
        return HERE

    async def client(self) -> Client:
        """Returns a client of the servers in use, which is closed with the world."""
        return await self._stack.enter_async_context(Client(self.servers, self.history))

    def servers(self) -> list[str]:
        """The URLs that clients may use now."""
        return [api.url for api in self.apis if api.url not in self.resting]

    @property
    def objects(self) -> Path:
        """The directory of the results, without S3."""
        return self.setup.objects or self.directory / "objects"

    @property
    def fleet(self) -> RedisFleet:
        """The servers of Redis, in a setup with several."""
        assert self._fleet is not None
        return self._fleet

    @property
    def lease_s(self) -> float:
        """The length of every lease in seconds."""
        return float(self.setup.env.get("QUEUE_LEASE_S", "6"))

    async def add_host(self, **environ: str) -> Host:
        """Starts one more worker, with its own link to Redis."""
        name = f"worker-{len(self.hosts)}"
        host = Host(name, await self._environ(name) | environ, self.directory, self.place_of(name))
        self.hosts.append(host)
        host.start()
        return host

    async def add_api(self) -> Api:
        """Starts one more server."""
        name = f"api-{len(self.apis)}"
        api = Api(name, await self._environ(name), self.directory, self.place_of(name))
        self.apis.append(api)
        api.start()
        return api

    async def until_ready(self, workers: int | None = None) -> None:
        """Waits until every server in use answers and this many workers are ready."""
        wanted = len(self.hosts) if workers is None else workers
        async with httpx.AsyncClient(trust_env=False, timeout=2) as client:
            for api in self.apis:
                await self.until(partial(self._counts_ready, client, api, wanted), f"{api.name} ready")

    async def until(self, condition: Callable[[], object], what: str, timeout_s: float = READY_WITHIN_S) -> float:
        """Waits until the condition holds, which may be a coroutine, and returns the seconds. Raises TimeoutError."""
        started = time.monotonic()
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return time.monotonic() - started
            if time.monotonic() - started > timeout_s:
                raise TimeoutError(f"not in {timeout_s:g} s: {what}")
            await asyncio.sleep(0.02)

    async def until_found(self, look: Callable[[], T | None], what: str) -> T:
        """Waits for the first result that is not None. Raises TimeoutError."""
        while True:
            await self.until(look, what)
            if (found := look()) is not None:
                return found

    def collect(self) -> None:
        """Copies the facts in the workers' logs into the history, each line once."""
        for host in self.hosts:
            text = host.log.read_bytes()
            new = text[self._collected.get(host.name, 0) : text.rfind(b"\n") + 1]
            self._collected[host.name] = self._collected.get(host.name, 0) + len(new)
            self.history.add(worker_facts(new, host.name))

    def tracebacks(self) -> int:
        """Returns the errors with a traceback in the logs of servers and workers."""
        logs = [part.log.read_bytes() for part in (*self.apis, *self.hosts)]
        return sum(line.count(b'"exception":') for log in logs for line in log.splitlines())

    def metric(self, name: str) -> float:
        """Returns the sum over the worker processes that are alive."""
        return sum(host.metric(name) for host in self.hosts)

    async def _start(self) -> None:
        if self.setup.s3:
            await self._start_s3()
        if self._fleet is not None:
            await asyncio.to_thread(self._fleet.start)
        else:
            self.redis.start()
            await self.until(self.redis.answers, "Redis answers")
        for _ in range(self.setup.apis):
            await self.add_api()
        for _ in range(self.setup.workers):
            await self.add_host()
        await self.until_ready()

    async def _start_s3(self) -> None:
        from tests.support import s3_server

        directory = self.directory / "s3"
        directory.mkdir()
        running = s3_server.running(directory, self.place_of("s3"))
        self.s3 = await asyncio.to_thread(self._servers.enter_context, running)
        self._s3_endpoint = await self._link_s3(self.s3.s3_endpoint)

    async def _environ(self, name: str) -> dict[str, str]:
        settings = {
            "API_KEYS": f"default:{API_KEY}",
            "API_RATE_LIMIT_PER_MINUTE": "0",
            "REDIS_URL": await self._redis_url(name),
            "MODELS_MODULES": "tests.chaos.models",
            "MODELS_SERVE": MODEL,
            "WORKER_GPU_IDS": "cpu",
            "WORKER_THREADS": "1",
            "WORKER_RESERVED_SLOTS": "0",
            "STORAGE_DIRECTORY": str(self.objects),
            "QUEUE_INLINE_BUDGET_BYTES": str(INLINE_BUDGET_BYTES),
            "TELEMETRY_LOG_FORMAT": "json",
        }
        settings |= self._s3_settings() | self.setup.env
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        return {f"PENSTOCK_{k}": v for k, v in settings.items()} | self._variables(name) | {"PYTHONPATH": path}

    def _variables(self, name: str) -> dict[str, str]:
        return self.setup.environ | self.setup.environ_of.get(name, {})

    async def _redis_url(self, name: str) -> str:
        """The address of Redis for one process, over a link of its own."""
        if self._fleet is not None:
            return self._fleet.url
        link = self.links[name] = Proxy(f"127.0.0.1:{self.redis.port}", self.rng)
        await link.start()
        return link.url(self.redis.url)

    async def _link_s3(self, endpoint: str) -> str:
        """The address of S3 for every process, over one link."""
        self.s3_link = Proxy(urlsplit(endpoint).netloc, self.rng)
        await self.s3_link.start()
        return self.s3_link.url(endpoint)

    def _s3_settings(self) -> dict[str, str]:
        if self.s3 is None:
            return {}
        return {
            "STORAGE_LOCAL": "false",
            "STORAGE_S3_ENDPOINT": self._s3_endpoint,
            "STORAGE_S3_BUCKET": self.s3.s3_bucket,
            "STORAGE_S3_ACCESS_KEY": self.s3.s3_access_key,
            "STORAGE_S3_SECRET_KEY": self.s3.s3_secret_key,
        }

    async def _counts_ready(self, client: httpx.AsyncClient, api: Api, wanted: int) -> bool:
        if not api.alive:
            raise RuntimeError(f"{api.name} died:\n{api.log.read_text()[-2000:]}")
        try:
            answer = await client.get(f"{api.url}/readyz")
        except httpx.HTTPError:
            return False
        return not wanted or (answer.status_code == 200 and answer.json()["workers"] >= wanted)
