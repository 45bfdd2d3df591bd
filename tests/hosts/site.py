"""A world on several hosts: Redis, an object store, APIs and workers have one each, and the clients another one."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path as File

from penstock.settings import clean_environment
from tests.chaos.parts import Api, Host, Part
from tests.chaos.world import Setup, World
from tests.hosts.machines import Machine, Network
from tests.hosts.switch import CUT, GOOD, Path
from tests.support.places import Place

CLIENT = "client"
"""The host of the test itself: its clients, its receiver of webhooks, and its looks at Redis."""

Ways = list[tuple[Machine, Machine]]
"""Paths, each from the first host to the second."""


class Site(World):
    """The processes of a run, each on the host of its name."""

    def __init__(self, network: Network, setup: Setup, *, seed: int, directory: File, is_short: bool) -> None:
        self.network = network
        super().__init__(setup, seed=seed, directory=directory, is_short=is_short)

    def place_of(self, name: str) -> Place:
        """The host of this name; a sentinel runs on that of its server."""
        return self.machine(name.replace("sentinel-", "redis-")).place

    def machine(self, name: str) -> Machine:
        """The host of this name."""
        return self.network.machine(name)

    def between(self, name: str, *others: str) -> Ways:
        """Both ways between one host and these others, or all others."""
        one = self.machine(name)
        found = [self.machine(other) for other in others] or self.network.others(one)
        return [way for other in found for way in ((one, other), (other, one))]

    @asynccontextmanager
    async def bad(self, ways: Ways, path: Path = CUT, note: str = "", worker: str = "") -> AsyncIterator[None]:
        """Makes these paths bad while the block runs."""
        self.history.write("fault", note=note or f"network {path}", worker=worker)
        self.network.set(path, ways)
        try:
            yield
        finally:
            self.network.set(GOOD, ways)
            self.history.write("heal", note="network is well")

    async def power_off(self, *parts: Part, worker: str = "") -> None:
        """Takes a host with these processes away in one moment, so that nobody is told; `power_on` brings it back."""
        (name,) = {part.name for part in parts}
        self.history.write("fault", note=f"power of {name} off", worker=worker)
        self.network.set(CUT, self.between(name))
        for part in parts:
            await asyncio.to_thread(part.kill)

    def power_on(self, *parts: Part) -> None:
        """Starts the host, which remembers no connection, and these processes."""
        (name,) = {part.name for part in parts}
        self.network.boot(self.machine(name))
        self.network.set(GOOD, self.between(name))
        for part in parts:
            part.place = self.place_of(name)
            part.start()
        self.history.write("heal", note=f"power of {name} on")

    async def said(self, api: Api, *command: str) -> tuple[int | None, str]:
        """Runs a command of Penstock on the host of an API; returns its exit status, and all that it prints."""
        log = self.directory / f"{command[0]}-{len(self.history.events)}.log"
        argv = [sys.executable, "-m", "penstock", *command]
        part = Part(command[0], argv, clean_environment() | await self._environ(api.name), log, api.place)
        part.start()
        status = await asyncio.to_thread(part.wait, 180)
        part.kill()
        return status, log.read_text()

    async def _redis_url(self, name: str) -> str:
        return self._fleet.url if self._fleet is not None else self.redis.url

    async def _link_s3(self, endpoint: str) -> str:
        return endpoint

    async def _environ(self, name: str) -> dict[str, str]:
        own = {
            "PENSTOCK_WORKER_SPOOL_DIRECTORY": str(self.directory / f"spool-{name}"),
            "PENSTOCK_API_METRICS": "on",
        }
        return await super()._environ(name) | own


def worker_id(host: Host) -> str:
    """The id of the worker process of a host, or nothing between two of them."""
    child = host.child()
    return child[1] if child else ""


def each(ways: Iterable[Ways]) -> Ways:
    """All these paths."""
    return [way for some in ways for way in some]


@asynccontextmanager
async def site(setup: Setup, *, seed: int, directory: File, is_short: bool) -> AsyncIterator[Site]:
    """Starts a site, with this thread on the host of the clients."""
    with Network() as network, network.machine(CLIENT).entered():
        async with Site(network, setup, seed=seed, directory=directory, is_short=is_short) as started:
            yield started
