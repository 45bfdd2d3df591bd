"""Faults of Redis itself on a host of its own: its power fails, it is emptied, or it has no connection left."""

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path as File

from msgspec.structs import replace

from tests.chaos.load import Load
from tests.chaos.nemesis import Skipped
from tests.chaos.report import Report
from tests.chaos.trial import orders, records
from tests.chaos.world import Setup
from tests.hosts.asking import asking
from tests.hosts.server_faults import AWAY_S, steady
from tests.hosts.site import Site
from tests.hosts.worker_faults import with_deaths

LAST_S = 2.0
"""What `appendfsync everysec` may lose: the last second, and one more while a sync takes long."""
GIVE_UP_S = 10.0


def synced(policy: str) -> Callable[[Setup, File], AbstractContextManager[Setup]]:
    """A Redis with this `appendfsync`, of which is known what it has synced."""

    @contextmanager
    def place(setup: Setup, directory: File) -> Iterator[Setup]:
        compiler = shutil.which("cc")
        if compiler is None:
            raise Skipped("no C compiler for the library that notes what is synced")
        library = directory / "synced.so"
        source = File(__file__).with_name("synced.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
        environ = {"LD_PRELOAD": str(library), "SYNCED": str(directory / "synced")}
        yield replace(setup, redis_environ=environ, redis_options={"appendfsync": policy})

    return place


async def power_cut(site: Site, seed: int, tasks: int) -> Report:
    """N17, N18: the power of the host of Redis fails, and its file is as long as what was certainly on the disk."""
    load = Load(site, orders(seed, tasks), rate=max(20.0, tasks / 60), drain_s=GIVE_UP_S)
    running = asyncio.create_task(load.run(), name="load")
    await load.until(0.3)
    await site.power_off(site.redis)
    off = time.time()
    cut_bytes = _cut_to_what_was_synced(site)
    await asyncio.sleep(1)
    site.power_on(site.redis)
    await running
    done = await with_deaths(site, load, cut_bytes=cut_bytes)
    found = {record["task_id"] for record in records(site)}
    told = {event.task: event.at for event in site.history.of("submit.ok")}
    lost = [task for task in told if task not in found]
    return Report(
        figures=done.figures
        | {
            "gone": len(lost),
            "gone_that_were_older": sum(told[task] < off - LAST_S for task in lost),
            "gone_later": sum(told[task] > off for task in lost),
            "ended_again": sum("accepted ends" in violation.text for violation in done.violations),
        },
        violations=done.violations,
    )


async def emptied(site: Site, seed: int, tasks: int) -> Report:
    """N19: somebody empties Redis while tasks wait and run; then everything goes on."""
    load, running = await steady(site, seed, tasks, drain_s=GIVE_UP_S)
    before = dict(load.tasks)
    ended = set(load.ended)
    site.history.write("fault", note="FLUSHALL")
    with site.redis.client() as client:
        client.flushall()
    await running
    asker = await site.client()
    codes = [
        (answer.status, answer.code) for answer in [await asker.ask("GET", f"/v1/tasks/{t}") for t in before.values()]
    ]
    after = Load(site, orders(seed, 20, (1, 5), prefix="after-"))
    await after.run()
    done = await with_deaths(site, after)
    return Report(
        figures=done.figures
        | {
            "known_before": len(before),
            "said_lost": sum(code == (410, "state_lost") for code in codes),
            "said_gone": sum(status in (404, 410) for status, _ in codes),
            "results_before": len(ended),
        },
        violations=[],
    )


async def no_connection_left(site: Site, seed: int, tasks: int) -> Report:
    """N20: somebody has taken every connection that Redis allows, for a while."""
    load, running = await steady(site, seed, tasks)
    api, known = site.apis[0], next(iter(load.tasks.values()))
    with site.redis.client() as client:
        usual = int(client.info("clients")["connected_clients"])
        client.config_set("maxclients", usual + 50)
        async with asking(site, api, known) as asked:
            site.history.write("fault", note="no connection left")
            taken = _take_all(site)
            client.client_kill_filter(_type="normal", skipme=True)  # those in use come back to a full house
            taken += _take_all(site)
            await asyncio.sleep(AWAY_S / 2)
            for one in taken:
                one.close()
            site.history.write("heal", note="connections are free")
    await running
    late = Load(site, asked.orders)
    await late.run()
    return await with_deaths(site, load, late, taken=len(taken), **asked.figures)


def _take_all(site: Site) -> list[socket.socket]:
    taken = []
    for _ in range(200):
        one = socket.create_connection((site.redis.place.address, site.redis.port), 5)
        one.sendall(b"PING\r\n")
        one.settimeout(5)
        if not one.recv(64).startswith(b"+PONG"):
            one.close()
            break
        taken.append(one)
    return taken


def _cut_to_what_was_synced(site: Site) -> int:
    """Returns how many bytes of the append-only files were not certainly on the disk."""
    synced_bytes: dict[str, int] = {}
    for line in (site.directory / "synced").read_text().splitlines():
        size, _, path = line.partition(" ")
        synced_bytes[path] = max(int(size), synced_bytes.get(path, 0))
    cut = 0
    for path in site.redis.data.rglob("*.incr.aof"):
        size = path.stat().st_size
        kept = min(size, synced_bytes.get(str(path), 0))
        os.truncate(path, kept)
        cut += size - kept
    return cut
