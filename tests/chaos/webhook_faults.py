"""Scenarios H: faults of webhook receivers, and of the servers that send to them."""

import asyncio
import base64
import time
from collections import Counter
from itertools import cycle, pairwise

from msgspec.structs import replace

from penstock.core.access import TENANT
from penstock.core.task import PRIORITIES, State
from penstock.settings import QueueSettings, RedisSettings
from penstock.store import Engine, Store, connect
from tests.chaos.client import Order
from tests.chaos.load import Load
from tests.chaos.models import MODEL
from tests.chaos.nemesis import Nemesis
from tests.chaos.receiver import HANG, RESET, Message, Receiver
from tests.chaos.report import Report
from tests.chaos.trial import conclude, orders
from tests.chaos.world import Setup, World
from tests.support import redis_server

OLD, NEW = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
HOOKS = {"WEBHOOKS_SECRETS": OLD, "WEBHOOKS_ALLOW_HTTP": "true", "LIMITS_ALLOW_NETWORKS": "127.0.0.0/8"}
DAY_S = 86_400.0
SCHEDULE_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
SCALE = 2_000
"""The schedule of three days, with a day in 43 s."""
SUBMITS_PER_S = 60.0
KILL_EVERY_S = 2.0
RESET_SHARE = 0.1
HANGING, HEALTHY_SHARE = 500, 0.2
RETRY_AFTER_S = 3
BUSY_ENDPOINTS = 100
SOON_S = 120.0
STALE_S = 5.0


def of_day(scale: int) -> Setup:
    """Returns the retry schedule, shortened by this much."""
    return Setup(workers=2, env=HOOKS | {"WEBHOOKS_RETRIES_S": ",".join(str(wait / scale) for wait in SCHEDULE_S)})


async def away_for_a_day(world: World, seed: int, tasks: int) -> Report:
    """H1: for half of a (shortened) day connections are refused, for the other half the receiver answers errors."""
    down_s = DAY_S / SCALE
    receiver = _receiver(lambda endpoint, message_id: 500)
    load = Load(world, _told(orders(seed, tasks, (1, 5)), receiver.url()))
    running = asyncio.create_task(load.run(), name="load")
    began = time.monotonic()
    await asyncio.sleep(down_s / 2)
    async with receiver.listening():
        await asyncio.sleep(max(0.0, began + down_s - time.monotonic()))
        refused = len(receiver.messages)
        receiver.answering = lambda endpoint, message_id: 200
        await _until_told(world, receiver, tasks)
        await running
    return await _concluded(
        world,
        load,
        receiver,
        refused=refused,
        stale=sum(abs(message.at - message.stamp) > STALE_S for message in receiver.messages),
    )


async def killed_dispatcher(world: World, seed: int, tasks: int) -> Report:
    """H2: the server is killed every 2 s, and one message in ten is read and not answered."""
    receiver = _receiver(lambda endpoint, message_id: RESET if world.rng.random() < RESET_SHARE else 200)
    nemesis = Nemesis(world)
    load = Load(world, _told(orders(seed, tasks, (1, 5)), receiver.url()), rate=SUBMITS_PER_S)
    async with receiver.listening():
        async with nemesis.again(lambda: nemesis.kill_api(world.apis[0]), KILL_EVERY_S):
            await load.run()
        await _until_told(world, receiver, tasks)
    resets = sum(message.status == RESET for message in receiver.messages)
    return await _concluded(
        world,
        load,
        receiver,
        kills=nemesis.deeds,
        resets=resets,
        repeated=len(receiver.messages) - tasks,
        repeated_allowed=nemesis.deeds + resets,
    )


async def hanging_receivers(world: World, seed: int, tasks: int) -> Report:
    """H3: 500 receivers take messages and never answer, one does; all are new to the server."""
    healthy = "127.0.0.1"
    receiver = _receiver(lambda endpoint, message_id: 200 if endpoint == healthy else HANG)
    made = orders(seed, tasks, (1, 5))
    to_healthy = set(world.rng.sample(range(tasks), int(tasks * HEALTHY_SHARE)))
    places = [f"127.1.{n // 250}.{1 + n % 250}" for n in range(min(HANGING, tasks // 2))]
    turns = cycle(places)
    hooked = [
        replace(order, webhook=receiver.url(healthy if n in to_healthy else next(turns)))
        for n, order in enumerate(made)
    ]
    load = Load(world, hooked, rate=SUBMITS_PER_S)
    async with receiver.listening():
        await load.run()
        await _until_told(world, receiver, len(to_healthy))
    lags = sorted(message.at - message.said for message in receiver.messages if message.endpoint == healthy)
    return await _concluded(
        world,
        load,
        receiver,
        hanging=len({message.endpoint for message in receiver.messages} - {healthy}),
        hanging_wanted=len(places),
        healthy=len(to_healthy),
        lag_p50_s=lags[len(lags) // 2],
        lag_p95_s=lags[int(len(lags) * 0.95)],
        lag_max_s=lags[-1],
    )


async def answers_that_are_none(world: World, seed: int, tasks: int) -> Report:
    """H4: a quarter of the messages each goes to receivers that are gone, moved, or busy for some seconds (429,
    503)."""
    gone, moved, elsewhere = "127.0.0.2", "127.0.0.3", "127.0.0.4"
    busy = {
        429: [f"127.2.0.{n + 1}" for n in range(BUSY_ENDPOINTS)],
        503: [f"127.3.0.{n + 1}" for n in range(BUSY_ENDPOINTS)],
    }
    status_of = {address: status for status, addresses in busy.items() for address in addresses}
    asked: Counter[str] = Counter()

    def answer(endpoint: str, message_id: str) -> int:
        asked[endpoint] += 1
        if endpoint in status_of:
            return status_of[endpoint] if asked[endpoint] == 1 else 200
        return {gone: 410, moved: 301}.get(endpoint, 200)

    receiver = _receiver(answer)
    receiver.headers = {status: {"Retry-After": str(RETRY_AFTER_S)} for status in busy}
    receiver.headers[301] = {"Location": receiver.url(elsewhere)}
    places = [
        (gone, moved, busy[429][n // 4 % BUSY_ENDPOINTS], busy[503][n // 4 % BUSY_ENDPOINTS])[n % 4]
        for n in range(tasks)
    ]
    made = orders(seed, tasks, (1, 5))
    hooked = [replace(order, webhook=receiver.url(place)) for order, place in zip(made, places, strict=True)]
    load = Load(world, hooked, rate=SUBMITS_PER_S)
    to_busy = sum(place in status_of for place in places)
    async with receiver.listening():
        await load.run()
        await _until_told(world, receiver, to_busy)
        await world.until(lambda: asked[moved] == places.count(moved) * 3, "all tries of what has moved", SOON_S)
        await asyncio.sleep(3)
    by_endpoint: dict[str, list[Message]] = {}
    for message in receiver.messages:
        by_endpoint.setdefault(message.endpoint, []).append(message)
    pauses = [
        later.at - earlier.at
        for address in status_of
        for earlier, later in pairwise(by_endpoint.get(address, []))
        if earlier.status != 200
    ]
    return await _concluded(
        world,
        load,
        receiver,
        gone_asked=asked[gone],
        gone_events=places.count(gone),
        followed=asked[elsewhere],
        busy_answers=len(pauses),
        pause_min_s=min(pauses),
        to_busy=to_busy,
    )


async def nobody_tells(world: World, seed: int, tasks: int) -> Report:
    """H5: no server runs while the tasks end; one is started when all have."""
    receiver = _receiver(lambda endpoint, message_id: 200)
    load = Load(world, _told(orders(seed, tasks, (1, 5)), receiver.url()))
    api = world.apis[0]
    async with receiver.listening(), connect(RedisSettings(url=world.redis.url)) as redis:
        store = Store(Engine(redis, "penstock", QueueSettings()))
        await store.queues.pause(MODEL, PRIORITIES, by="chaos")
        running = asyncio.create_task(load.run(), name="load")
        await load.until_submitted()
        await asyncio.to_thread(api.kill)
        await store.queues.resume(MODEL, PRIORITIES)

        async def all_have_ended() -> bool:
            return (await store.listing.count(TENANT))[State.SUCCESS] == tasks

        await world.until(all_have_ended, "all tasks have ended", SOON_S)
        early = len(receiver.messages)
        api.start()
        took_s = await world.until(lambda: len(receiver.told()) == tasks, "all are told", SOON_S)
        await running
    return await _concluded(world, load, receiver, told_early=early, told_after_s=took_s)


async def new_secret(world: World, seed: int, tasks: int) -> Report:
    """H6: the secret is replaced under load: first the old one, then both, then the new one alone, server after
    server. A receiver with the old one verifies until the third step begins, one with the new one since the end of
    the second."""
    receiver = _receiver(lambda endpoint, message_id: 200)
    load = Load(world, _told(orders(seed, tasks, (1, 5)), receiver.url()), rate=SUBMITS_PER_S / 3)
    steps: list[float] = []
    async with receiver.listening():
        running = asyncio.create_task(load.run(), name="load")
        for progress, secrets in ((0.2, f"{NEW},{OLD}"), (0.6, NEW)):
            await load.until(progress)
            steps.append(time.time())
            for api in world.apis:
                await api.restart_with(PENSTOCK_WEBHOOKS_SECRETS=secrets)
                await world.until_ready(workers=0)
            steps.append(time.time())
        await running
        await _until_told(world, receiver, tasks)
    _, both, third, _ = steps
    early = [message for message in receiver.messages if message.at < third]
    late = [message for message in receiver.messages if message.at > both]
    return await _concluded(
        world,
        load,
        receiver,
        before_third=len(early),
        after_second=len(late),
        refused_by_old=sum(0 not in message.verified for message in early),
        refused_by_new=sum(1 not in message.verified for message in late),
    )


def _receiver(answering: object) -> Receiver:
    return Receiver(redis_server.free_port(), (OLD, NEW), answering)  # type: ignore[arg-type]


def _told(usual: list[Order], url: str) -> list[Order]:
    return [replace(order, webhook=url) for order in usual]


async def _until_told(world: World, receiver: Receiver, count: int) -> None:
    await world.until(lambda: len(receiver.told()) >= count, f"{count} events are told", SOON_S)


async def _concluded(world: World, load: Load, receiver: Receiver, **figures: float) -> Report:
    return await conclude(
        world,
        load,
        told=len(receiver.told()),
        messages=len(receiver.messages),
        ids=len({message.id for message in receiver.messages}),
        unverified=sum(not message.verified for message in receiver.messages),
        **figures,
    )
