"""Faults of the hosts of workers, and of the network on the way to them."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path as File

from msgspec.structs import replace

from tests.chaos.load import Load
from tests.chaos.redis_faults import faketime
from tests.chaos.report import Report
from tests.chaos.trial import conclude, orders, throughput
from tests.chaos.world import Setup
from tests.hosts.site import Site, Ways, each, worker_id
from tests.hosts.switch import CUT, Path

LONG_MS = (100, 400)
BAD = Path(loss=0.3, delay_s=0.05)
"""In each direction: a third of the packets is lost, and a round trip takes 100 ms."""
SLOW = Path(bytes_per_s=32 * 1024)
OFF_S = 10.0


async def cut_off(site: Site, seed: int, tasks: int) -> Report:
    """N1: nothing reaches a worker, and nothing comes from it."""
    return await _bad_for_one(site, seed, tasks, site.between("worker-0"), CUT)


async def unheard(site: Site, seed: int, tasks: int) -> Report:
    """N2: nothing comes from a worker, which hears the others."""
    return await _bad_for_one(site, seed, tasks, site.between("worker-0")[::2], CUT)


async def deaf(site: Site, seed: int, tasks: int) -> Report:
    """N3: nothing reaches a worker, which the others hear."""
    return await _bad_for_one(site, seed, tasks, site.between("worker-0")[1::2], CUT)


async def slow(site: Site, seed: int, tasks: int) -> Report:
    """N4: everything that a worker sends and receives is slow."""
    return await _bad_for_one(site, seed, tasks, site.between("worker-0"), SLOW)


async def lossy(site: Site, seed: int, tasks: int) -> Report:
    """N5: half of the tasks run on a good network, half on one that loses and delays packets between all hosts."""
    good = Load(site, orders(seed, tasks // 2, prefix="good-"))
    await good.run()
    bad = Load(site, orders(seed, tasks - tasks // 2, prefix="bad-"), drain_s=300)
    names = ["redis", "s3", *(part.name for part in (*site.apis, *site.hosts))]
    async with site.bad(each(site.between(name, *names[n + 1 :]) for n, name in enumerate(names[:-1])), BAD):
        await bad.run()
    done = await with_deaths(site, good, bad)
    loss = 1 - throughput(site, bad) / throughput(site, good)
    return Report(figures=done.figures | {"throughput_loss": loss}, violations=done.violations)


async def rebooted(site: Site, seed: int, tasks: int) -> Report:
    """N6: the power of a worker host fails, and comes back."""
    load, running = await begun(site, seed, tasks)
    host = site.hosts[0]
    await site.power_off(host, worker=worker_id(host))
    await asyncio.sleep(OFF_S)
    site.power_on(host)
    await running
    await site.until_ready()
    return await with_deaths(site, load)


@contextmanager
def wrong_clocks(setup: Setup, directory: File) -> Iterator[Setup]:
    """The clock of a worker and that of an API are wrong by ten minutes, to different sides. S3 itself refuses a clock
    that is wrong by a quarter of an hour."""
    ahead, behind = faketime(FAKETIME="+600"), faketime(FAKETIME="-600")
    yield replace(setup, environ_of={"worker-0": ahead, "api-0": behind})


async def nothing(site: Site, seed: int, tasks: int) -> Report:
    """N7: nothing more happens than what is so from the start."""
    load = Load(site, orders(seed, tasks))
    await load.run()
    return await with_deaths(site, load)


async def begun(site: Site, seed: int, tasks: int) -> tuple[Load, "asyncio.Task[None]"]:
    """A load of which a part has ended."""
    load = Load(site, orders(seed, tasks, LONG_MS), drain_s=300)
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.1)
    return load, running


async def with_deaths(site: Site, *loads: Load, **figures: float) -> Report:
    """Concludes, and counts the processes that died, and the attempts that were stopped or refused."""
    done = await conclude(site, *loads, **figures)
    deaths = sum(1 for _ in site.history.of("worker.died"))
    late = done.figures["fenced"] + done.figures["stopped"]
    return Report(figures=done.figures | {"workers_died": deaths, "late": late}, violations=done.violations)


async def _bad_for_one(site: Site, seed: int, tasks: int, ways: Ways, path: Path) -> Report:
    load, running = await begun(site, seed, tasks)
    async with site.bad(ways, path, worker=worker_id(site.hosts[0])):
        await asyncio.sleep(3 * site.lease_s)
    await running
    await asyncio.sleep(site.lease_s / 2)  # it looks at its leases
    return await with_deaths(site, load)
