"""Scenarios A: faults of the HTTP servers, and what clients do to them."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import httpx

from tests.chaos.client import API_KEY, Order
from tests.chaos.load import Load
from tests.chaos.nemesis import Nemesis
from tests.chaos.parts import Api
from tests.chaos.report import Report
from tests.chaos.trial import conclude, orders
from tests.chaos.world import World

SUBMITS_PER_S = 60.0
KILL_EVERY_S = 1.5
A2_SUBMITS_PER_S = 40.0
LOOK_EVERY_S = 0.05
"""How often a proxy in front asks for readiness."""
DOWN_S = {True: 5.0, False: 600.0}
HANG_UPS_PER_TASK = 10
IDLE_S = 7.0
"""The server closes what is idle for 5 s; what is open then is its pool of Redis connections, or a leak."""


async def kill_api(world: World, seed: int, tasks: int) -> Report:
    """A1: servers are killed and started again."""
    nemesis = Nemesis(world)
    load = Load(world, orders(seed, tasks, (1, 5)), rate=SUBMITS_PER_S)
    async with nemesis.again(lambda: nemesis.kill_api(world.apis[0]), KILL_EVERY_S):
        await load.run()
    done = await conclude(world, load)
    exist = len({event.task for event in world.history.of("listed")})
    return Report(figures=done.figures | {"exist": exist}, violations=done.violations)


async def rolling_api(world: World, seed: int, tasks: int) -> Report:
    """A2: each server in turn is stopped gracefully; clients avoid those that say they are not ready."""
    load = Load(world, orders(seed, tasks, (1, 5)), rate=A2_SUBMITS_PER_S)
    exits: list[tuple[int | None, float]] = []
    async with _honouring_readiness(world):
        running = asyncio.create_task(load.run(), name="load")
        for n, api in enumerate(world.apis):
            await load.until(0.1 + 0.3 * n)
            exits.append(await _restart(world, api))
        await running
    done = await conclude(world, load)
    return Report(
        figures=done.figures
        | {
            "failed_requests": done.figures["unanswered"] + done.figures["refused_5xx"],
            "exits_bad": sum(status != 0 for status, _ in exits),
            "exit_max_s": max(took_s for _, took_s in exits),
        },
        violations=done.violations,
    )


async def hang_ups(world: World, seed: int, tasks: int) -> Report:
    """A8: clients reset their connection in the middle of a body, or before the answer."""
    api = world.apis[0]
    load = Load(world, orders(seed, tasks, (1, 20)), rate=SUBMITS_PER_S)
    before = _open_files(api)
    rude, polite = asyncio.Semaphore(50), asyncio.create_task(load.run(), name="load")

    async def one(n: int) -> None:
        async with rude:
            await _hang_up(api, n, world.rng.random())

    count = tasks * HANG_UPS_PER_TASK
    await asyncio.gather(*(one(n) for n in range(count)))
    await polite
    done = await conclude(world, load)
    await asyncio.sleep(IDLE_S)
    extra = [e for e in done.violations if e.rule == "I2"]  # whole bodies of those that hung up may have been accepted
    return Report(
        figures=done.figures
        | {
            "hang_ups": count,
            "files_grown": _open_files(api) - before,
            "redis_connections": world.links[api.name].connections,
            "unsound": done.figures["unsound"] - len(extra),
        },
        violations=[v for v in done.violations if v not in extra],
    )


async def no_workers(world: World, seed: int, tasks: int) -> Report:
    """A9: every worker is away, and submits are accepted; a tenth of the tasks has a start limit that passes
    meanwhile."""
    short = tasks <= 300
    down_s = DOWN_S[short]
    nemesis = Nemesis(world)
    impatient = tasks // 10
    usual = orders(seed, tasks - impatient)
    usual += [Order(key=f"impatient-{seed}-{n}", start_within_s=down_s / 3) for n in range(impatient)]
    for host in world.hosts:
        await nemesis.stop_host(host)
    load = Load(world, usual, drain_s=down_s + 120)
    running = asyncio.create_task(load.run(), name="load")
    await load.until_submitted()
    await asyncio.sleep(down_s)
    ready = await (await world.client()).ask("GET", "/readyz")
    for host in world.hosts:
        host.start()
    await running
    return await conclude(
        world,
        load,
        impatient=impatient,
        patient=tasks - impatient,
        down_s=down_s,
        ready_without_workers=(ready.status, ready.body["workers"]) == (200, 0),
    )


@asynccontextmanager
async def _honouring_readiness(world: World) -> AsyncIterator[None]:
    """Acts as a load balancer: a server that does not answer 200 at /readyz gets no new request."""

    async def look(api: Api) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=1) as client:
            while True:
                ready = False
                with suppress(httpx.HTTPError):
                    ready = (await client.get(f"{api.url}/readyz")).status_code == 200
                (world.resting.discard if ready else world.resting.add)(api.url)
                await asyncio.sleep(LOOK_EVERY_S)

    looking = [asyncio.create_task(look(api), name=f"look {api.name}") for api in world.apis]
    try:
        yield
    finally:
        for task in looking:
            task.cancel()
        await asyncio.gather(*looking, return_exceptions=True)
        world.resting.clear()


async def _restart(world: World, api: Api) -> tuple[int | None, float]:
    world.history.write("fault", note=f"SIGTERM {api.name}")
    api.signal(signal.SIGTERM)
    took_s = await world.until(lambda: not api.alive, f"{api.name} stops")
    status = api.status
    api.start()
    await world.until(lambda: api.url not in world.resting, f"{api.name} is back")
    world.history.write("heal", note=f"{api.name} is back")
    return status, took_s


async def _hang_up(api: Api, n: int, share: float) -> None:
    """Sends a share of a submit or a read; all of it if the share is above 0.8."""
    body = json.dumps(Order(key=f"rude-{n}").body()).encode()
    head = f"Host: here\r\nx-api-key: {API_KEY}\r\n"
    post = f"POST /v1/tasks HTTP/1.1\r\n{head}content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    request = f"GET /v1/tasks?limit=20 HTTP/1.1\r\n{head}\r\n".encode() if n % 2 else post.encode() + body
    with suppress(OSError):
        _, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(request[: int(len(request) * min(1.0, share / 0.8))])
        await writer.drain()
        await asyncio.sleep(0.002)
        writer.transport.abort()


def _open_files(api: Api) -> int:
    return len(list(Path(f"/proc/{api.pid}/fd").iterdir()))
