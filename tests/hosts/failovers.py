"""Failovers of Redis between hosts: the server with our keys is cut off, alone or with clients of its own."""

import asyncio

from tests.chaos.failovers import begun, ended
from tests.chaos.report import Report
from tests.hosts.asking import asking
from tests.hosts.site import Site, each


async def master_cut_off(site: Site, seed: int, tasks: int) -> Report:
    """N21, N22: the host of the server with our keys is cut off until another one is the master, and comes back."""
    load, running = await begun(site, seed, tasks)
    old = site.fleet.master()
    async with site.bad(site.between(f"redis-{site.fleet.servers.index(old)}")):
        await site.until(lambda: site.fleet.master() is not old, "another one is the master")
        await load.until(load.progress + 0.2)
    done = await ended(site, load, running)
    await site.until(lambda: old in site.fleet.replicas(), "the old master follows the new one")
    return done


async def cut_off_with_an_api(site: Site, seed: int, tasks: int) -> Report:
    """N23: the same, while one API of two is on the side of the old master: nobody else hears either of them."""
    load, running = await begun(site, seed, tasks)
    old, api = site.fleet.master(), site.apis[0]
    host = f"redis-{site.fleet.servers.index(old)}"
    site.resting.add(api.url)
    others = [other.name for other in site.network.others(site.machine(host), site.machine(api.name))]
    alone = [name for name in others if name != "client"]
    ways = each([site.between(host, *alone), site.between(api.name, *alone)])
    async with asking(site, api, next(iter(load.tasks.values()))) as asked:
        async with site.bad(ways):
            await site.until(lambda: site.fleet.master() is not old, "another one is the master")
            await load.until(load.progress + 0.2)
        await asyncio.sleep(1)
    site.resting.clear()
    done = await ended(site, load, running)
    client = await site.client()
    answers = [(await client.ask("GET", f"/v1/tasks/{task}")).status for task in asked.accepted]
    return Report(
        figures=done.figures | asked.figures | {"taken_by_it": len(answers), "lost_of_it": answers.count(404)},
        violations=done.violations,
    )
