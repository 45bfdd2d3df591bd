"""Faults of the network to clients and to receivers of webhooks, and of firewalls in between."""

import asyncio
import socket
import time
from itertools import pairwise
from pathlib import Path as File

from msgspec.structs import replace

from tests.chaos.client import API_KEY, Order
from tests.chaos.load import Load
from tests.chaos.parts import Api
from tests.chaos.receiver import Receiver
from tests.chaos.report import Report
from tests.chaos.trial import conclude, orders
from tests.chaos.webhook_faults import NEW, OLD
from tests.hosts.machines import Machine
from tests.hosts.server_faults import AWAY_S, steady
from tests.hosts.site import Site, each
from tests.hosts.worker_faults import with_deaths

FAR = "far"
"""A host of clients, or of a receiver."""
CONNECTIONS = 20
"""Event streams, and as many waits, of the host that goes away."""
LONG_TASK_S = 600
FORGETS, FORGET_EVERY_S = 3, 7.0
TOLD_WITHIN_S = 60.0
HOOKS = {"WEBHOOKS_SECRETS": OLD, "WEBHOOKS_ALLOW_HTTP": "true", "LIMITS_ALLOW_NETWORKS": "10.77.0.0/24"}
HOOKS |= {"WEBHOOKS_RETRIES_S": "1,2,4,8,16", "WEBHOOKS_TIMEOUT_S": "3"}


async def clients_vanish(site: Site, seed: int, tasks: int) -> Report:
    """N14: the path of clients that wait or read events dies silently; nobody ever closes their connections."""
    client, api = await site.client(), site.apis[0]
    task = await client.submit(Order(key=f"long-{seed}", ms=LONG_TASK_S * 1000))
    far = site.machine(FAR)
    with far.entered():
        sockets = [socket.create_connection((api.place.address, api.port), 5) for _ in range(2 * CONNECTIONS)]
    for n, one in enumerate(sockets):
        path = f"/v1/tasks/{task}" + ("/events" if n % 2 else "?wait=30")
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: api\r\nx-api-key: {API_KEY}\r\n\r\n".encode())
    await site.until(lambda: _connections(api, far) == len(sockets), "all are connected")
    await asyncio.sleep(1)
    began = time.monotonic()
    async with site.bad(site.between(FAR, api.name)):
        await site.until(lambda: _connections(api, far) == 0, "the API has let them go", 1000)
        freed_s = time.monotonic() - began
    for one in sockets:
        one.close()
    assert task is not None
    await client.cancel(task)
    await client.record(task)
    load = Load(site, orders(seed, tasks, (1, 5)))
    await load.run()
    return await with_deaths(site, load, freed_s=freed_s)


async def firewall_forgets(site: Site, seed: int, tasks: int) -> Report:
    """N15: a firewall before Redis and the storage forgets every open connection, again and again."""
    load, running = await steady(site, seed, tasks)
    mine = [part.name for part in (*site.apis, *site.hosts)]
    for _ in range(FORGETS):
        site.history.write("fault", note="the firewall forgets")
        site.network.forget(each(site.between(name, *mine)[::2] for name in ("redis", "s3")))
        site.history.write("heal", note="new connections are let through")
        await asyncio.sleep(FORGET_EVERY_S)
    await running
    done = await with_deaths(site, load)
    ends = sorted(event.at for event in site.history.of("attempt.ended"))
    pause_s = max((b - a for a, b in pairwise(ends)), default=0.0)
    return Report(figures=done.figures | {"pause_max_s": pause_s}, violations=done.violations)


async def receiver_cut_off(site: Site, seed: int, tasks: int) -> Report:
    """N16: the host that is told of half of the tasks is cut off; another one is told all the time."""
    there, here = (Receiver(port, (OLD, NEW), lambda endpoint, message_id: 200) for port in (9001, 9002))
    far, own = site.machine(FAR), site.machine("client")
    usual = orders(seed, tasks, (1, 5))
    urls = [there.url(far.address), here.url(own.address)]
    hooked = [replace(order, webhook=urls[n % 2]) for n, order in enumerate(usual)]
    load = Load(site, hooked, rate=max(10.0, tasks / 60))
    async with there.listening(_bound(far, there.port)), here.listening(_bound(own, here.port)):
        running = asyncio.create_task(load.run(), name="load")
        await load.until(0.1)
        async with site.bad(site.between(FAR)):
            await asyncio.sleep(AWAY_S)
            at_once = sorted(message.at - message.said for message in here.messages)
        back = time.monotonic()
        await running
        await site.until(lambda: len(there.told() | here.told()) == tasks, "all are told", TOLD_WITHIN_S)
        told_after_s = time.monotonic() - back
    messages = [*there.messages, *here.messages]
    return await conclude(
        site,
        load,
        told=len(there.told() | here.told()),
        told_after_s=told_after_s,
        unverified=sum(not message.verified for message in messages),
        others_p95_s=at_once[int(len(at_once) * 0.95)],
    )


def _bound(machine: Machine, port: int) -> socket.socket:
    with machine.entered():
        listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((machine.address, port))
    listener.setblocking(False)
    return listener


def _connections(api: Api, client: Machine) -> int:
    """The connections of a client that the kernel of the host of an API still has, in any state."""
    peer = socket.inet_aton(client.address)[::-1].hex().upper()
    rows = File(f"/proc/{api.pid}/net/tcp").read_text().splitlines()[1:]
    return sum(row.split()[2].startswith(f"{peer}:") for row in rows)
