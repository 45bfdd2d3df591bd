"""One run: first with faults, then without until all tasks have ended; then everything is deleted. Invariants are
checked all the time."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import NamedTuple

from penstock.core.access import TENANT
from penstock.core.task import PRIORITIES, State
from penstock.errors import ResultExpired, TaskNotFound
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import connect, scripts
from tests.interleave.acts import IMAGE, delete_everything
from tests.interleave.invariants import broken, left_behind
from tests.interleave.world import MODEL, World
from tests.stress.actors import CAST, STAY_WHEN_CALM, Actor, Seen
from tests.stress.mishaps import Died, Luck, Unreliable, UnreliableStorage, mine
from tests.support.moved_clock import AHEAD, moved_clock

QUEUE = QueueSettings(
    lease_s=1.0, max_crashes=4, max_retries=2, retry_base_s=0.1, retry_cap_s=0.5, result_ttl_s=3, batch_window=6,
    max_depth=100_000, inline_budget_bytes=5 * len(IMAGE),
)  # fmt: skip
"""Redis has room for the inputs of five tasks: there are some there, in the storage, and on their way between."""
LOOK_S = 2.0
CALM_WITHIN_S = 90.0

MOST_KEY = "the most commands of a script"
COUNTED = """
-- Counts the commands of the script that follows, and keeps the most that it ever gave.
local count, plain = 0, redis
local redis = setmetatable({{call = function(...) count = count + 1 return plain.call(...) end}}, {{__index = plain}})
local function whole()
{script}
end
local answer = whole()
if count > tonumber(plain.call('HGET', '{key}', '{name}') or 0) then plain.call('HSET', '{key}', '{name}', count) end
return answer
"""


class Report(NamedTuple):
    """The results of a run."""

    faults: Counter[str]
    seen: Seen
    looks: int
    most_commands: dict[str, int]
    slowest_ms: float


class Stage:
    """All actors, and what they share."""

    def __init__(self, socket: str, seed: int) -> None:
        self._url = f"unix://{socket}"
        self._seed = seed
        self._objects: dict[str, bytes] = {}
        self._lucks: list[Luck] = []
        self._is_calm = self._is_over = False
        self.seen = Seen()
        self.faults: Counter[str] = Counter()
        self.looks = 0

    async def run(self, seconds: float) -> None:
        """Runs with faults for this long, then ends and deletes everything."""
        async with self._world() as world:
            cast = [asyncio.create_task(self._play(kind, number)) for number, kind in enumerate(CAST)]
            try:
                await self._look_for(world, seconds, cast)
                await self._calm_down(world)
            finally:
                self._is_over = True
                for actor in cast:
                    actor.cancel()
                await asyncio.gather(*cast, return_exceptions=True)
            await self._check_ends(world)
            await delete_everything(world)
            self.faults.update(left_behind(await world.look(), self._objects))

    @asynccontextmanager
    async def _world(self) -> AsyncIterator[World]:
        async with connect(RedisSettings(url=self._url, timeout_s=10)) as client:
            yield World(client, Unreliable, UnreliableStorage(self._objects), QUEUE)

    async def _play(self, kind: type[Actor], number: int) -> None:
        """Runs one actor of this kind after the other, each until it dies."""
        life = 0
        while not self._has_left(kind)():
            luck = Luck(f"{self._seed} {number} {life}", self.seen.happened)
            luck.is_calm = self._is_calm
            self._lucks.append(luck)
            mine.set(luck)
            async with self._world() as world:
                actor = kind(world, self.seen, luck)
                try:
                    await actor.live(until=self._has_left(kind))
                except BaseExceptionGroup as group:
                    if group.split(Died)[1] is not None:
                        raise
                except Died:
                    pass
                mine.set(None)
                await actor.is_missed()
            life += 1

    def _has_left(self, kind: type[Actor]) -> Callable[[], bool]:
        stays = issubclass(kind, STAY_WHEN_CALM)
        return lambda: self._is_over or (self._is_calm and not stays)

    async def _look_for(self, world: World, seconds: float, cast: list[asyncio.Task[None]]) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            await asyncio.sleep(min(LOOK_S, seconds / 2))
            await self._look(world)
            for actor in cast:
                if actor.done():
                    actor.result()

    async def _calm_down(self, world: World) -> None:
        """Starts nothing new and injects no more faults, until all tasks have ended."""
        self._is_calm = True
        for luck in self._lucks:
            luck.is_calm = True
        give_up = time.monotonic() + CALM_WITHIN_S
        while True:
            await asyncio.sleep(0.3)
            await world.store.queues.resume(MODEL, PRIORITIES)  # a pause may have been under way
            left = await world.store.listing.count(TENANT)
            if not left[State.PENDING] + left[State.RUNNING] and not (await world.look()).keys.get("feeding"):
                break
            if time.monotonic() > give_up:
                self.faults[f"has not ended: {left}"] += 1
                break
        await self._look(world)

    async def _look(self, world: World) -> None:
        """Reports only what is wrong twice, since records and objects are read one after the other."""
        first = await self._wrong_now(world)
        self.looks += 1
        if first:
            await asyncio.sleep(0.05)
            self.faults.update(first & await self._wrong_now(world))

    async def _wrong_now(self, world: World) -> set[str]:
        snapshot = await world.look()
        return set(broken(snapshot, dict(self._objects)))

    async def _check_ends(self, world: World) -> None:
        """Checks that every task that a client knows exists, or is known to have existed."""
        snapshot = await world.look()
        for task_id in self.seen.acknowledged - snapshot.records.keys():
            if not await _is_known(world, task_id):
                self.faults["an acknowledged task is not known any more"] += 1


async def _is_known(world: World, task_id: str) -> bool:
    try:
        await world.store.tasks.get(task_id, TENANT)
    except ResultExpired:
        return True
    except TaskNotFound:
        return False
    return True


@contextmanager
def _counted_scripts() -> Iterator[None]:
    """Records the largest number of commands of all scripts that are loaded inside the block."""
    plain = dict(scripts.TEXTS)
    counted = {name: COUNTED.format(script=text, name=name, key=MOST_KEY) for name, text in plain.items()}
    scripts.TEXTS.update(counted)
    try:
        yield
    finally:
        scripts.TEXTS.update(plain)


async def stress(socket: str, *, seconds: float, seed: int) -> Report:
    """Runs on a server that nothing else uses."""
    async with AsyncExitStack() as opened:
        opened.enter_context(moved_clock(AHEAD))
        opened.enter_context(_counted_scripts())
        client = await opened.enter_async_context(connect(RedisSettings(url=f"unix://{socket}")))
        await client.config_set("slowlog-log-slower-than", 1000)
        await client.config_set("slowlog-max-len", 10_000)
        stage = Stage(socket, seed)
        await stage.run(seconds)
        most = {name.decode(): int(count) for name, count in (await client.hgetall(MOST_KEY)).items()}
        slow = [row["duration"] for row in await client.slowlog_get(10_000) if row["command"].startswith(b"EVALSHA")]
        return Report(stage.faults, stage.seen, stage.looks, most, max(slow, default=0) / 1000)
