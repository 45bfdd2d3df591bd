"""Faults of the hosts of Redis, of the storage, and of APIs, and of the network on the way to them."""

import asyncio
import time

from tests.chaos.load import Load
from tests.chaos.report import Report
from tests.chaos.trial import orders
from tests.hosts.asking import asking, is_ready, metric
from tests.hosts.site import Site, Ways
from tests.hosts.worker_faults import LONG_MS, OFF_S, with_deaths

AWAY_S = 20.0


async def redis_cut_from_all(site: Site, seed: int, tasks: int) -> Report:
    """N8: Redis hears nobody, and nobody hears it, for three leases."""
    return await _redis_cut(site, seed, tasks, site.between("redis"))


async def redis_cut_from_api(site: Site, seed: int, tasks: int) -> Report:
    """N9: one of two APIs and Redis do not hear each other; clients that honour `/readyz` use the other one."""
    site.resting.add(site.apis[0].url)
    return await _redis_cut(site, seed, tasks, site.between("redis", site.apis[0].name))


async def redis_rebooted(site: Site, seed: int, tasks: int) -> Report:
    """N10: the power of the host of Redis fails, and comes back."""
    load, running = await steady(site, seed, tasks)
    await site.power_off(site.redis)
    await asyncio.sleep(OFF_S)
    site.power_on(site.redis)
    await running
    return await with_deaths(site, load)


async def api_rebooted(site: Site, seed: int, tasks: int) -> Report:
    """N11: the power of the host of one API of two fails, and comes back."""
    load, running = await steady(site, seed, tasks)
    api = site.apis[0]
    await site.power_off(api)
    site.resting.add(api.url)
    await asyncio.sleep(OFF_S)
    site.power_on(api)
    site.resting.clear()
    await running
    await site.until_ready()
    return await with_deaths(site, load)


async def s3_cut_from_worker(site: Site, seed: int, tasks: int) -> Report:
    """N12: one worker and the storage do not hear each other."""
    load = Load(site, orders(seed, tasks, LONG_MS), drain_s=300)
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.1)
    async with site.bad(site.between("s3", "worker-0")):
        await asyncio.sleep(AWAY_S)
    back = time.monotonic()
    await running
    done = await with_deaths(site, load, all_done_after_s=time.monotonic() - back)
    inferences = site.metric("penstock_device_batch_tiles_count")
    return Report(figures=done.figures | {"inferences": inferences}, violations=done.violations)


async def s3_cut_from_api(site: Site, seed: int, tasks: int) -> Report:
    """N13: one of two APIs and the storage do not hear each other; clients that honour `/readyz` use the other one."""
    site.resting.add(site.apis[0].url)
    return await _cut(site, seed, tasks, site.between("s3", site.apis[0].name), "penstock_storage_up", "storage")


async def _redis_cut(site: Site, seed: int, tasks: int, ways: Ways) -> Report:
    return await _cut(site, seed, tasks, ways, "penstock_store_up", "redis")


async def _cut(site: Site, seed: int, tasks: int, ways: Ways, up: str, named: str) -> Report:
    """Cuts these paths while somebody asks the first API, and says what that, its metric `up` and the doctor say."""
    load, running = await steady(site, seed, tasks)
    api, known = site.apis[0], next(iter(load.tasks.values()))
    async with asking(site, api, known) as asked:
        async with site.bad(ways):
            cut = time.monotonic()
            status, said = await site.said(api, "doctor")
            asked.figures["doctor_s"] = time.monotonic() - cut
            await asyncio.sleep(AWAY_S - min(AWAY_S, time.monotonic() - cut))
            asked.figures["up"] = await metric(api, up)
        asked.figures["ready_after_s"] = await site.until(lambda: is_ready(api), "ready again")
    asked.figures |= {"doctor_status": status or 0, "doctor_names": float(named in said.lower())}
    site.resting.clear()
    await running
    late = Load(site, asked.orders)
    await late.run()
    return await with_deaths(site, load, late, **asked.figures)


async def steady(site: Site, seed: int, tasks: int, *, drain_s: float = 300.0) -> tuple[Load, "asyncio.Task[None]"]:
    """Submits that go on during the fault: some 10 s for a short run."""
    load = Load(site, orders(seed, tasks, LONG_MS), rate=max(10.0, tasks / 60), drain_s=drain_s)
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.1)
    return load, running
