"""Injects faults. Each one is recorded in the history, and the seed decides every choice."""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

from tests.chaos.parts import Api, Host, is_frozen
from tests.chaos.proxy import DROP, PASS, Proxy, Toxic
from tests.chaos.world import World

CGROUPS = (
    (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes", "memory.oom_control"),
    (Path("/sys/fs/cgroup"), "memory.max", "memory.events"),
)
"""Version 1, then 2: where groups are made, the file of the limit, and the file that counts kills."""

Deed = Callable[[], Awaitable[object]]


class Skipped(Exception):
    """This machine cannot do that; the text says why."""


class Nemesis:
    """Injects faults into one world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = world.rng
        self.deeds = 0

    @asynccontextmanager
    async def again(self, deed: Deed, every_s: float) -> AsyncIterator[None]:
        """Repeats the fault while the block runs, with 20 % of jitter; a fault that has begun is always finished."""
        over = asyncio.Event()

        async def go_on() -> None:
            while True:
                with suppress(TimeoutError):
                    await asyncio.wait_for(over.wait(), every_s * self._rng.uniform(0.8, 1.2))
                    return
                await deed()
                self.deeds += 1

        task = asyncio.create_task(go_on(), name="nemesis")
        try:
            yield
        finally:
            over.set()
            await task

    async def kill_child(self) -> None:
        """Kills the worker process of a random supervisor, which survives; does nothing if it has no worker process."""
        host = self._rng.choice(self._world.hosts)
        if child := host.child():
            pid, worker = child
            self._fault(f"kill child of {host.name}", worker)
            os.kill(pid, signal.SIGKILL)

    async def kill_host(self) -> None:
        """Kills a random supervisor with its child, and starts another in its place."""
        host = self._rng.choice(self._world.hosts)
        child = host.child()
        self._fault(f"kill {host.name}", child[1] if child else "")
        await asyncio.to_thread(host.kill)
        host.start()

    async def freeze_child(self, seconds: float) -> None:
        """Stops a random worker process that is not frozen yet (SIGSTOP), and continues it later."""
        living = [(host, child) for host in self._world.hosts if (child := host.child()) and not is_frozen(child[0])]
        if len(living) < 2:
            return  # one worker must go on
        host, (pid, worker) = self._rng.choice(living)
        self._fault(f"freeze child of {host.name} for {seconds:.2f} s", worker)
        os.kill(pid, signal.SIGSTOP)
        await asyncio.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
        self._heal(f"resume child of {host.name}")

    async def cut_off(self, seconds: float) -> None:
        """Cuts a random worker and its supervisor off from Redis for this long."""
        host = self._rng.choice(self._world.hosts)
        child = host.child()
        async with self.network([self._world.links[host.name]], DROP, worker=child[1] if child else ""):
            await asyncio.sleep(seconds)

    async def stop_host(self, host: Host, timeout_s: float = 60) -> tuple[int | None, float]:
        """Sends SIGTERM to a supervisor; returns its exit status and the seconds that it took."""
        self._fault(f"SIGTERM {host.name}")
        host.signal(signal.SIGTERM)
        try:
            took_s = await self._world.until(lambda: not host.alive, f"{host.name} stops", timeout_s)
        except TimeoutError:
            return None, timeout_s
        return host.status, took_s

    async def restart_redis(self, gap_s: float) -> None:
        """Kills Redis and starts it again after the gap."""
        redis = self._world.redis
        self._fault("kill redis")
        await asyncio.to_thread(redis.kill)
        await asyncio.sleep(gap_s)
        redis.start()
        await self._world.until(redis.answers, "Redis answers")
        self._heal("redis is back")

    async def freeze_redis(self, seconds: float) -> None:
        """Stops Redis (SIGSTOP) and continues it later."""
        self._fault(f"freeze redis for {seconds:g} s")
        self._world.redis.signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        self._world.redis.signal(signal.SIGCONT)
        self._heal("redis goes on")

    async def kill_api(self, api: Api, gap_s: float = 0.0) -> None:
        """Kills a server and starts it again; returns when it answers."""
        self._fault(f"kill {api.name}")
        await asyncio.to_thread(api.kill)
        await asyncio.sleep(gap_s)
        api.start()
        await self._world.until_ready(workers=0)
        self._heal(f"{api.name} is back")

    async def flush_scripts(self) -> None:
        """Makes Redis forget every script."""
        self._fault("script flush")
        with self._world.redis.client() as client:
            client.script_flush()

    def limit_memory(self, limit: int) -> None:
        """Sets `maxmemory` in bytes; 0 is no limit."""
        with self._world.redis.client() as client:
            client.config_set("maxmemory", limit)
        (self._fault if limit else self._heal)(f"maxmemory {limit}")

    @asynccontextmanager
    async def network(self, links: Iterable[Proxy], toxic: Toxic, worker: str = "") -> AsyncIterator[None]:
        """Makes these links bad while the block runs."""
        links = tuple(links)
        self._fault(f"network {toxic}", worker)
        for link in links:
            link.set(toxic)
        try:
            yield
        finally:
            for link in links:
                link.set(PASS)
            self._heal("network is well")

    @asynccontextmanager
    async def full_disk(self, directory: Path) -> AsyncIterator[None]:
        """Fills a file system completely while the block runs."""
        self._fault("disk full")
        ballast = directory / "ballast"
        _fill(ballast)
        try:
            yield
        finally:
            ballast.unlink()
            self._heal("disk has room")

    def _fault(self, note: str, worker: str = "") -> None:
        self._world.history.write("fault", note=note, worker=worker)

    def _heal(self, note: str) -> None:
        self._world.history.write("heal", note=note)


class MemoryLimit:
    """A control group for one process and its future children. Raises Skipped where none may be made."""

    def __init__(self, name: str, limit_bytes: int) -> None:
        for root, limit, events in CGROUPS:
            if (root / "cgroup.procs").exists() and (events == "memory.oom_control" or _controls_memory(root)):
                self._limit, self._events, self._path = limit, events, root / name
                break
        else:
            raise Skipped("no memory controller of control groups")
        try:
            self._path.mkdir()
            (self._path / limit).write_text(str(limit_bytes))
        except OSError as error:
            raise Skipped(f"no right to make a control group: {error.strerror}") from error

    def hold(self, pids: Iterable[int]) -> None:
        """Adds these processes, and thereby everything that they start from now on."""
        for pid in pids:
            (self._path / "cgroup.procs").write_text(str(pid))

    @property
    def kills(self) -> int:
        """Returns how many processes the kernel has killed for their memory."""
        words = (self._path / self._events).read_text().split()
        return int(words[words.index("oom_kill") + 1])

    def lift(self) -> None:
        """Removes the limit."""
        (self._path / self._limit).write_text("max" if self._limit == "memory.max" else "-1")

    def remove(self) -> None:
        """Removes the group when it is empty."""
        with suppress(OSError):
            self._path.rmdir()


def _controls_memory(root: Path) -> bool:
    return "memory" in (root / "cgroup.subtree_control").read_text().split()


@contextmanager
def small_disk(path: Path, megabytes: int):  # type: ignore[no-untyped-def]
    """Mounts a tmpfs of this size. Raises Skipped where mounting is not allowed."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "chaos", str(path)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise Skipped(f"no right to mount a tmpfs: {made.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=False)


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096, 512, 1):
            with suppress(OSError):
                while file.write(b"\0" * size) == size:
                    pass
