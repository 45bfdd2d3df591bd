"""Hosts of a network of their own, made of namespaces of the kernel: a network and a host name for each.

A namespace has no name and lives as long as something holds it open, so that nothing of it stays behind, however a run
ends. Processes of a host enter its namespaces before their program begins.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import msgspec

from tests.chaos.parts import ROOT
from tests.hosts.switch import CUT, GOOD, LARGEST, Command, Path
from tests.support.places import Place

NETWORK = "10.77.0."
CLONE_NEWNET, CLONE_NEWUTS = 0x40000000, 0x04000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000

T = TypeVar("T")

libc = ctypes.CDLL(None, use_errno=True)


class CannotMakeHosts(Exception):
    """This machine cannot do that; the text says why."""


class Machine:
    """A host with one address, which can be switched off and on again."""

    def __init__(self, name: str, address: str) -> None:
        self.name = name
        self.address = address
        self._namespace = -1

    @property
    def place(self) -> Place:
        """Where processes of this host run."""
        return Place(self.address, self._enter)

    def boot(self) -> int:
        """Makes a fresh network, which knows of no connection, and returns its device."""
        self.close()
        self._namespace, device = _in_a_thread(self._make)
        return device

    def close(self) -> None:
        """Lets go of the network, which ends with its last process."""
        if self._namespace >= 0:
            os.close(self._namespace)
        self._namespace = -1

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Moves this thread, and all threads that it starts, to the network of this host while the block runs."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            _checked(libc.setns(self._namespace, CLONE_NEWNET))
            yield
        finally:
            _checked(libc.setns(home, CLONE_NEWNET))
            os.close(home)

    def _enter(self) -> None:
        _checked(libc.setns(self._namespace, CLONE_NEWNET))
        _checked(libc.unshare(CLONE_NEWUTS))
        socket.sethostname(self.name)

    def _make(self) -> tuple[int, int]:
        """Is called in a thread of its own, which is all that moves."""
        _checked(libc.unshare(CLONE_NEWNET))
        device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"eth0", IFF_TUN | IFF_NO_PI))
        for command in (
            ("addr", "add", f"{self.address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "mtu", "1500", "up"),
            ("link", "set", "lo", "up"),
        ):
            subprocess.run(["ip", *command], check=True, capture_output=True)
        return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC), device


class Network:
    """Hosts, and the switch between them. Every path is good until it is told otherwise."""

    def __init__(self) -> None:
        self._machines: dict[str, Machine] = {}
        self._stack = ExitStack()

    def __enter__(self) -> "Network":
        control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._control = self._stack.enter_context(control)
        self._control.settimeout(10)
        with theirs:
            argv = [sys.executable, "-m", "tests.hosts.switch", str(theirs.fileno())]
            self._switch = subprocess.Popen(argv, pass_fds=[theirs.fileno()], cwd=ROOT)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()  # which ends the switch
        for machine in self._machines.values():
            machine.close()
        self._switch.wait(10)

    def machine(self, name: str) -> Machine:
        """Returns the host of this name, which is switched on when it is first asked for."""
        if name not in self._machines:
            self._machines[name] = Machine(name, f"{NETWORK}{len(self._machines) + 1}")
            self.boot(self._machines[name])
        return self._machines[name]

    def boot(self, machine: Machine) -> None:
        """Switches a host on, or off and on again: its old connections are gone, and nobody has been told."""
        device = machine.boot()
        self._tell(Command(attach=machine.address), device)
        os.close(device)

    def others(self, *but: Machine) -> list[Machine]:
        """Returns every host but these."""
        return [machine for machine in self._machines.values() if machine not in but]

    def cut(self, machine: Machine) -> None:
        """Lets nothing through from or to a host."""
        others = self.others(machine)
        self.set(CUT, [way for other in others for way in ((machine, other), (other, machine))])

    def set(self, path: Path, pairs: Iterable[tuple[Machine, Machine]]) -> None:
        """Makes these paths what is said, each in its one direction; it is so from the return on."""
        self._tell(Command(paths=[(one.address, other.address, path) for one, other in pairs]))

    def forget(self, pairs: Iterable[tuple[Machine, Machine]]) -> None:
        """Carries no packet more of what is open between these hosts, as a firewall does that was restarted."""
        self._tell(Command(forget=[(one.address, other.address) for one, other in pairs]))

    def _tell(self, command: Command, *devices: int) -> None:
        socket.send_fds(self._control, [msgspec.json.encode(command)], devices)
        if self._control.recv(LARGEST) != b"done":
            raise RuntimeError("the switch has ended")


def check() -> None:
    """Makes two hosts and lets one hear the other, not hear it, and hear it again.

    Raises CannotMakeHosts with the reason where that does not go.
    """
    try:
        with Network() as network:
            one, other = network.machine("one"), network.machine("other")
            if not _is_heard(one, other):
                raise CannotMakeHosts("hosts of namespaces do not hear each other")
            network.set(CUT, [(one, other)])
            if _is_heard(one, other):
                raise CannotMakeHosts("a path that is cut carries packets")
            network.set(GOOD, [(one, other)])
            if not _is_heard(one, other):
                raise CannotMakeHosts("a path that was cut carries nothing any more")
    except (OSError, subprocess.CalledProcessError, RuntimeError) as error:
        raise CannotMakeHosts(f"hosts of namespaces need root, iproute2 and /dev/net/tun: {error}") from error


def _is_heard(one: Machine, other: Machine) -> bool:
    with other.entered():
        ear = socket.socket(type=socket.SOCK_DGRAM)
    with one.entered():
        mouth = socket.socket(type=socket.SOCK_DGRAM)
    with ear, mouth:
        ear.bind((other.address, 0))
        ear.settimeout(0.3)
        mouth.sendto(b"?", ear.getsockname())
        try:
            return ear.recv(1) == b"?"
        except TimeoutError:
            return False


def _in_a_thread(call: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, thread_name_prefix="namespace") as thread:
        return thread.submit(call).result()


def _checked(status: int) -> None:
    if status != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
