"""Several Redis servers that take over from one another: three sentinels with a master and two replicas, or a cluster
of masters with a replica each."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.crc import key_slot

from tests.support.places import HERE, Place, PlaceOf, here
from tests.support.redis_server import RedisProcess, binary, die_with_parent, free_port

READY_WITHIN_S = 60.0
MASTER = "the-master"
SLOTS = 16_384
"""Of a cluster, of which each master has as many."""


class RedisFleet:
    """What all kinds have. It is started by `with`, and then serves, but is not `whole` at once.

    `place_of` says where a server runs, or a sentinel, by its name: `redis-0` is the first server."""

    def __init__(self, directory: Path, place_of: PlaceOf = here) -> None:
        self.directory = directory
        self.place_of = place_of
        self.servers: list[RedisProcess] = []
        self._stack = ExitStack()

    url: str

    def start(self) -> None:
        """Starts every process."""
        raise NotImplementedError

    def master(self) -> RedisProcess:
        """The server that has the keys now, as those who vote for it say."""
        raise NotImplementedError

    def kill(self) -> None:
        """Kills every process."""
        self._stack.close()

    def __enter__(self) -> "RedisFleet":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def client(self) -> redis.Redis:
        """A client of the server that has the keys now."""
        return client_of(self.master())

    def answers(self) -> bool:
        """Whether that server answers."""
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.RedisError:
            return False

    def freeze(self, server: RedisProcess) -> None:
        """Stops a server (SIGSTOP); at the end it is killed all the same."""
        os.kill(server.pid, signal.SIGSTOP)

    def thaw(self, server: RedisProcess) -> None:
        """Lets a frozen server go on."""
        os.kill(server.pid, signal.SIGCONT)

    def replicas(self) -> list[RedisProcess]:
        """The others that are alive and in sync with the one that has the keys."""
        master = self.master()
        return [server for server in self.servers if server is not master and _follows(server, master)]

    def is_whole(self) -> bool:
        """Whether every one of those who vote knows all others."""
        raise NotImplementedError

    def pause(self) -> None:
        """Lets the master take no more writes for a while, as an operator does before a failover."""
        with self.client() as client:
            client.execute_command("CLIENT", "PAUSE", 15_000, "WRITE")

    def drop_replicas(self, master: RedisProcess) -> None:
        """Closes the connections of a server to its replicas."""
        with client_of(master) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "replica")

    def _server(self, **options: str) -> RedisProcess:
        directory = self.directory / f"server-{len(self.servers)}"
        directory.mkdir(parents=True)
        place = self.place_of(f"redis-{len(self.servers)}")
        server = RedisProcess(
            directory, place=place, **REPLICATION, **{"replica-announce-ip": place.address}, **options
        )
        self.servers.append(server)
        self._stack.enter_context(server)
        return server


REPLICATION = {"repl-diskless-sync-delay": "0", "repl-ping-replica-period": "1"}


class SentinelFleet(RedisFleet):
    """A master, replicas, and sentinels of which most must agree."""

    def __init__(
        self,
        directory: Path,
        *,
        replicas: int = 2,
        sentinels: int = 3,
        down_after_s: float = 1.0,
        password: str = "",
        place_of: PlaceOf = here,
        **options: str,
    ) -> None:
        """`password` is that of the sentinels; `options` are those of the servers."""
        super().__init__(directory, place_of)
        self._replicas = replicas
        self._down_after_ms = int(down_after_s * 1000)
        self._password = password
        self._options = options
        places = [place_of(f"sentinel-{n}").address for n in range(sentinels)]
        self.sentinels = [(address, free_port()) for address in places]
        hosts = ",".join(f"{address}:{port}" for address, port in self.sentinels)
        self.url = f"redis+sentinel://{hosts}/{MASTER}"

    def start(self) -> None:
        """Starts servers first, since sentinels look for replicas every ten seconds only."""
        master = self._server(**self._options)
        for _ in range(self._replicas):
            with client_of(self._server(**self._options)) as client:
                client.replicaof(master.place.address, str(master.port))
        until(lambda: all(_follows(server, master) for server in self.servers[1:]), "replicas follow the master")
        for n, (_, port) in enumerate(self.sentinels):
            self._stack.enter_context(self._sentinel(self.place_of(f"sentinel-{n}"), port, master))

    def master(self) -> RedisProcess:
        """The one that the sentinels name."""
        host, port = self.asked("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
        place = (host if isinstance(host, str) else host.decode(), int(port))
        return next(server for server in self.servers if (server.place.address, server.port) == place)

    def is_whole(self) -> bool:
        """Whether every sentinel knows all replicas and all other sentinels."""
        seen = []
        for host, port in self.sentinels:
            with redis.Redis(host, port, password=self._password or None, retry=None) as client:
                state = client.sentinel_master(MASTER)
            seen.append((state["num-slaves"], state["num-other-sentinels"]))
        return seen == [(self._replicas, len(self.sentinels) - 1)] * len(self.sentinels)

    def fail_over(self) -> None:
        """Asks for a failover, again while a sentinel finds no replica fit for it, as on a machine that stood still.
        The old master takes writes for some seconds more, unless it is `paused`."""
        until(lambda: self.asked("SENTINEL", "FAILOVER", MASTER), "a sentinel takes the order to fail over")

    def asked(self, *command: str) -> Any:
        """What the last of the sentinels answers."""
        host, port = self.sentinels[-1]
        with redis.Redis(host, port, password=self._password or None, retry=None) as client:
            return client.execute_command(*command)

    @contextmanager
    def _sentinel(self, place: Place, port: int, master: RedisProcess) -> Iterator[None]:
        lines = [
            f"port {port}",
            f"sentinel monitor {MASTER} {master.place.address} {master.port} {len(self.sentinels) // 2 + 1}",
            f"sentinel down-after-milliseconds {MASTER} {self._down_after_ms}",
            f"sentinel failover-timeout {MASTER} 10000",
            *([f"requirepass {self._password}"] if self._password else []),
        ]
        with sentinel_with(self.directory / f"sentinel-{port}", lines, place):
            until(lambda: _answers(place.address, port, self._password), "a sentinel answers")
            yield


class ClusterFleet(RedisFleet):
    """Masters, with a replica each or none. `tag` is the hash tag of the keys that `master` is about."""

    def __init__(
        self,
        directory: Path,
        *,
        masters: int = 3,
        replicas: bool = True,
        tag: str = "penstock",
        node_timeout_s: float = 1.0,
        is_all_or_nothing: bool = True,
        place_of: PlaceOf = here,
    ) -> None:
        """`is_all_or_nothing` says whether the nodes refuse everybody while one of them is away, as is the default."""
        super().__init__(directory, place_of)
        self._full_coverage = "yes" if is_all_or_nothing else "no"
        self._masters = masters
        self._nodes = 2 * masters if replicas else masters
        self.slot = key_slot(tag.encode())
        self._node_timeout_ms = int(node_timeout_s * 1000)
        self.url = ""

    def start(self) -> None:
        """Makes the cluster, and waits until all its nodes agree."""
        buses = {}
        for _ in range(self._nodes):
            bus = free_port()
            server = self._server(
                **{
                    "cluster-enabled": "yes",
                    "cluster-port": str(bus),
                    "cluster-node-timeout": str(self._node_timeout_ms),
                    "cluster-announce-ip": self.place_of(f"redis-{len(self.servers)}").address,
                    "cluster-require-full-coverage": self._full_coverage,
                }
            )
            buses[server.port] = bus
        nodes = self.servers[: self._masters]
        self.url = "redis+cluster://" + ",".join(f"{server.place.address}:{server.port}" for server in nodes)
        for epoch, server in enumerate(self.servers, 1):
            self.ask(server, "CLUSTER", "SET-CONFIG-EPOCH", epoch)
        bounds = [SLOTS * number // self._masters for number in range(self._masters + 1)]
        for first, beyond, server in zip(bounds, bounds[1:], self.servers, strict=False):
            self.ask(server, "CLUSTER", "ADDSLOTSRANGE", first, beyond - 1)
        for server in self.servers[1:]:
            self.ask(self.servers[0], "CLUSTER", "MEET", server.place.address, server.port, buses[server.port])
        until(lambda: all(self._knows_all(server) for server in self.servers), "all nodes know each other")
        pairs = list(zip(self.servers[self._masters :], self.servers, strict=False))
        for replica, master in pairs:
            self.ask(replica, "CLUSTER", "REPLICATE", self.id_of(master))
        until(lambda: all(_follows(*pair) for pair in pairs), "replicas follow their masters")
        until(self.is_whole, "every node takes commands")

    def master(self) -> RedisProcess:
        """The owner of our slot, as most of the nodes that answer say."""
        return self.owner(self.slot)

    def owner(self, slot: int) -> RedisProcess:
        """The owner of a slot, as most of the nodes that answer say."""
        votes: list[int] = []
        for server in self.servers:
            try:
                rows = self.ask(server, "CLUSTER", "SLOTS")
            except redis.RedisError:
                continue
            votes += [int(node[1]) for first, last, node, *_ in rows if first <= slot <= last]
        port = max(set(votes), key=votes.count)
        return next(server for server in self.servers if server.port == port)

    def is_whole(self) -> bool:
        """Whether every node takes commands."""
        return all(b"cluster_state:ok" in self.ask(server, "CLUSTER", "INFO") for server in self.servers)

    def another(self) -> RedisProcess:
        """A master that has not our slot."""
        owner = self.master()
        return next(
            server for server in self.servers if server is not owner and self.ask(server, "ROLE")[0] == b"master"
        )

    def move_slot(self, target: RedisProcess, slot: int | None = None) -> int:
        """Moves a slot, or ours, key by key as `redis-cli --cluster reshard` does, and returns how many keys it had."""
        slot = self.slot if slot is None else slot
        source, moved = self.owner(slot), 0
        of_source, of_target = self.id_of(source), self.id_of(target)
        self.ask(target, "CLUSTER", "SETSLOT", slot, "IMPORTING", of_source)
        self.ask(source, "CLUSTER", "SETSLOT", slot, "MIGRATING", of_target)
        while keys := self.ask(source, "CLUSTER", "GETKEYSINSLOT", slot, 100):
            self.ask(source, "MIGRATE", target.place.address, target.port, "", 0, 10_000, "KEYS", *keys)
            moved += len(keys)
        for server in (target, source):
            self.ask(server, "CLUSTER", "SETSLOT", slot, "NODE", of_target)
        return moved

    def ask(self, server: RedisProcess, *command: Any) -> Any:
        """What a node answers, as it comes."""
        with client_of(server) as client:
            client.response_callbacks.clear()
            return client.execute_command(*command)

    def id_of(self, server: RedisProcess) -> str:
        """The id by which the nodes know it."""
        return str(self.ask(server, "CLUSTER", "MYID").decode())

    def _knows_all(self, server: RedisProcess) -> bool:
        nodes = self.ask(server, "CLUSTER", "NODES").decode().splitlines()
        return len(nodes) == len(self.servers) and not any("handshake" in line for line in nodes)


def client_of(server: RedisProcess) -> redis.Redis:
    """A client of one server, which gives up soon."""
    return redis.Redis.from_url(server.url, retry=None, socket_timeout=1)


def until(holds: Callable[[], object], what: str) -> None:
    """Waits until something holds; a server that does not answer yet is asked again."""
    give_up = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            if holds():
                return
        except redis.RedisError:
            pass
        assert time.monotonic() < give_up, f"not in {READY_WITHIN_S:g} s: {what}"
        time.sleep(0.02)


def _follows(server: RedisProcess, master: RedisProcess) -> bool:
    try:
        with client_of(server) as client:
            said = client.info("replication")
    except redis.RedisError:
        return False
    return (said.get("master_port"), said.get("master_link_status")) == (master.port, "up")


def _answers(host: str, port: int, password: str) -> bool:
    with redis.Redis(host, port, password=password or None, retry=None, socket_timeout=1) as client:
        return bool(client.ping())


@contextmanager
def sentinel_with(directory: Path, lines: Sequence[str], place: Place = HERE) -> Iterator[None]:
    """Runs a sentinel with these lines in its configuration."""
    directory.mkdir()
    file = directory / "sentinel.conf"
    bound = [f"bind {place.address}", "protected-mode no"]
    file.write_text("\n".join([*bound, f"dir {directory}", f"logfile {directory / 'log'}", *lines, ""]))

    def begin() -> None:
        die_with_parent()
        place.enter()

    process = subprocess.Popen([str(binary()), str(file), "--sentinel"], preexec_fn=begin)
    try:
        yield
    finally:
        process.kill()
        process.wait()
