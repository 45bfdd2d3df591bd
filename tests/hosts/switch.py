"""The network between the hosts: a process that carries every packet, late or not at all as it is told.

The kernel of a test machine need not have netem for that. A host has a TUN device, which gives IP packets and knows
neither checksums nor segments that only hardware would make. A dropped packet is dropped silently, as in a network that
is cut: nobody is told by ARP or ICMP.
"""

import heapq
import os
import random
import select
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import count

import msgspec
from msgspec import Struct

LARGEST = 65_536
QUEUE_S = 2.0
"""What would wait longer than this before a slow path is dropped, as by a router."""
TCP, SYN, ACK = 6, 0x02, 0x10


class Path(Struct, frozen=True):
    """The way from one host to another one: `loss` is the part of the packets that are dropped, `bytes_per_s` 0 means
    as fast as it goes."""

    loss: float = 0.0
    delay_s: float = 0.0
    bytes_per_s: float = 0.0


GOOD = Path()
CUT = Path(loss=1.0)


class Command(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One command. `attach` is the address of a host, whose device comes with the command. `paths` are set anew.
    `forget` names pairs of hosts: connections between them that were open are carried no more, new ones are."""

    attach: str = ""
    paths: list[tuple[str, str, Path]] = []
    forget: list[tuple[str, str]] = []


class Switch:
    """Carries packets until its control socket is closed."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._devices: dict[bytes, int] = {}
        self._paths: dict[bytes, Path] = {}
        self._free_at: dict[bytes, float] = {}
        self._known: dict[bytes, set[bytes]] = {}
        self._late: list[tuple[float, int, bytes, bytes]] = []
        self._numbers = count()
        self._random = random.Random(0)

    def run(self) -> None:
        """Serves the devices and the control socket."""
        poll = select.epoll()
        poll.register(self._control, select.EPOLLIN)
        while True:
            wait_s = max(0.0, self._late[0][0] - time.monotonic()) if self._late else -1
            for fd, _ in poll.poll(wait_s):
                if fd != self._control.fileno():
                    self._carry(fd)
                elif not self._obey(poll):
                    return
            self._deliver()

    def _obey(self, poll: select.epoll) -> bool:
        data, devices, _, _ = socket.recv_fds(self._control, LARGEST, 1)
        if not data:
            return False
        command = msgspec.json.decode(data, type=Command)
        if command.attach:
            (device,) = devices
            os.set_blocking(device, False)
            place = socket.inet_aton(command.attach)
            if (old := self._devices.get(place)) is not None:
                with suppress(OSError):
                    poll.unregister(old)
                os.close(old)
            self._devices[place] = device
            poll.register(device, select.EPOLLIN)
        for source, target, path in command.paths:
            self._paths[_pair(source, target)] = path
        for one, other in command.forget:
            self._known[_pair(one, other)] = self._known[_pair(other, one)] = set()
        self._control.send(b"done")
        return True

    def _carry(self, device: int) -> None:
        now = time.monotonic()
        for packet in _packets(device):
            if packet[0] >> 4 != 4 or packet[16:20] not in self._devices:
                continue
            pair = packet[12:20]
            path = self._paths.get(pair, GOOD)
            if (path.loss and self._random.random() < path.loss) or not self._is_known(pair, packet):
                continue
            due = now + path.delay_s
            if path.bytes_per_s:
                begun = max(now, self._free_at.get(pair, 0.0))
                if begun - now > QUEUE_S:
                    continue
                self._free_at[pair] = begun + len(packet) / path.bytes_per_s
                due = self._free_at[pair] + path.delay_s
            if due > now:
                heapq.heappush(self._late, (due, next(self._numbers), packet[16:20], packet))
            else:
                self._write(packet[16:20], packet)

    def _is_known(self, pair: bytes, packet: bytes) -> bool:
        """Whether a firewall that has forgotten what was open would let this packet pass."""
        known = self._known.get(pair)
        if known is None or packet[9] != TCP:
            return True
        head = (packet[0] & 15) * 4
        ports, flags = packet[head : head + 4], packet[head + 13]
        if flags & SYN and not flags & ACK:
            known.add(ports)
            self._known[pair[4:] + pair[:4]].add(ports[2:] + ports[:2])
        return ports in known

    def _deliver(self) -> None:
        now = time.monotonic()
        while self._late and self._late[0][0] <= now:
            _, _, target, packet = heapq.heappop(self._late)
            self._write(target, packet)

    def _write(self, target: bytes, packet: bytes) -> None:
        with suppress(OSError):  # the host has just been switched off, or its queue is full
            os.write(self._devices[target], packet)


def _pair(source: str, target: str) -> bytes:
    return socket.inet_aton(source) + socket.inet_aton(target)


def _packets(device: int) -> Iterator[bytes]:
    for _ in range(64):
        try:
            yield os.read(device, LARGEST)
        except OSError:  # there is no more, or the host has just been switched off
            return


if __name__ == "__main__":
    Switch(socket.socket(fileno=int(sys.argv[1]))).run()
