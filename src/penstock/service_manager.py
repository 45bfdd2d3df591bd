"""Service manager: tells systemd when the process is ready, that it is alive, and that it stops (`Type=notify`).

The protocol is one datagram (sd_notify(3)); the packages for it are either unmaintained or bind to the C library.
"""

import asyncio
import os
import socket
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from penstock.settings import clean_environment


async def told(running: Coroutine[Any, Any, None]) -> None:
    """Run what a process does from its start until it stops, and tell the manager of both, and of the time between."""
    beating = asyncio.create_task(beat(), name="heartbeat")
    try:
        await running
    finally:
        beating.cancel()
        tell("STOPPING=1")


async def beat() -> None:
    """Tell the manager that this process is ready, and then, where the manager watches that, again and again that its
    event loop turns. Without a manager it returns at once."""
    tell("READY=1")
    while pause_s := _beat_every_s():
        await asyncio.sleep(pause_s)
        tell("WATCHDOG=1")


def tell(state: str) -> None:
    """Send a state, such as `STOPPING=1`, to the manager that has started this process, if there is one."""
    place = clean_environment().get("NOTIFY_SOCKET", "")
    if place:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to_manager:
            to_manager.setblocking(False)
            to_manager.sendto(state.encode(), place.replace("@", "\0", 1) if place[0] == "@" else place)


def _beat_every_s() -> float:
    """A third of what the manager waits; 0 where it does not watch this process."""
    environ = clean_environment()
    usec, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
    return int(usec) / 3e6 if usec.isdigit() and pid in ("", str(os.getpid())) else 0
