"""Finders: who says which server has our keys, whenever a connection is opened.

Sentinels name the master; redis-py asks them. For a cluster there is no client of redis-py here: all our keys have one
hash tag, so that one node has them all, and its clients neither share a connection among callers nor subscribe. Any
node says which one it is.

A key of ours is never asked for at the node that imports it (ASK): while a slot moves key by key, each node has a part
of what a script looks at, and a script that saw a part would take the rest for absent. Until the slot has moved, the
store is unavailable. A slot that moves at once (CLUSTER MIGRATESLOTS of Valkey 9, CLUSTER MIGRATION of Redis 8.4) is
one MOVED.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from redis.asyncio.connection import AbstractConnection, Connection, DefaultParser, SSLConnection
from redis.asyncio.sentinel import Sentinel
from redis.crc import key_slot
from redis.exceptions import ConnectionError, RedisError, ResponseError  # noqa: A004  the vendor's name

from penstock.store.address import HostPort, RedisAddress
from penstock.store.failures import WrongServer
from penstock.store.tls import TlsConnection

ASKED_S = 1.0
"""Longest wait for one sentinel or node; the next one is asked then."""

Options = Mapping[str, Any]


class Finder(Protocol):
    """Finds the server that has our keys."""

    is_watched: bool
    """Whether a server goes on taking writes though another one has its place, so that one has to look now and then."""

    async def find(self) -> HostPort:
        """Ask for the server. Raises what redis-py raises."""
        ...

    async def check(self, connection: AbstractConnection) -> None:
        """Look at the server behind a new connection. Raises WrongServer when it is another one by now."""
        ...

    async def aclose(self) -> None:
        """Close what asks."""
        ...


class _Parser(DefaultParser):  # type: ignore[misc, valid-type]  # which of two it is depends on hiredis
    # Each refuses whatever we ask there. As a ConnectionError it ends the connection, and the server is found anew.
    EXCEPTION_CLASSES = DefaultParser.EXCEPTION_CLASSES | dict.fromkeys(
        ("MOVED", "READONLY", "MASTERDOWN", "UNBLOCKED"), WrongServer
    )


class Led(Connection):
    """A connection to the server that is found when it is opened, and each time anew."""

    def __init__(self, *, finder: Finder, **options: Any) -> None:
        super().__init__(**options, parser_class=_Parser)
        self._finder = finder

    async def _connect(self) -> None:
        self.host, self.port = await self._finder.find()
        await super()._connect()  # type: ignore[no-untyped-call]

    async def on_connect(self) -> None:
        """Called by redis-py when the connection is open."""
        await super().on_connect()
        await self._finder.check(self)


class LedWithTls(Led, TlsConnection):
    """The same, with TLS."""


class Sentinels:
    """The sentinels of one master. redis-py asks them in turn, and the one that has answered last first.

    They make a living master a replica some eight seconds after its failover; what it takes meanwhile is lost.
    """

    is_watched = True

    def __init__(self, places: Sequence[HostPort], master: str, options: Options) -> None:
        self.master = master
        self.places = places
        self._sentinel = Sentinel(places, sentinel_kwargs=dict(options))  # type: ignore[no-untyped-call]
        if options["ssl"]:
            for sentinel in self._sentinel.sentinels:
                sentinel.connection_pool.connection_class = TlsConnection

    async def find(self) -> HostPort:
        """Ask the sentinels for the master. Raises ConnectionError when none of them names one that is up."""
        host, port = await self._sentinel.discover_master(self.master)
        return str(host), int(port)

    async def check(self, connection: AbstractConnection) -> None:
        """A sentinel may be behind the others, and an old master that comes back does not know yet that it is one."""
        await connection.send_command("ROLE")
        role, *_ = await connection.read_response()
        if role != b"master":
            raise WrongServer("it is a replica")

    async def each(self) -> list[dict[str, Any]]:
        """What each sentinel that answers says of the master; nothing of one that does not know it."""
        said = []
        for sentinel in self._sentinel.sentinels:
            try:
                said.append(dict(await sentinel.sentinel_master(self.master)))  # type: ignore[no-untyped-call]
            except RedisError:
                continue
        return said

    async def aclose(self) -> None:
        """Close the connections to the sentinels."""
        for sentinel in self._sentinel.sentinels:
            await sentinel.aclose()


class Cluster:
    """The nodes of a cluster, of which each find asks another one first: a node may not have heard the news yet."""

    is_watched = False  # a node without our slot refuses what we ask

    def __init__(self, places: Sequence[HostPort], tag: str, kind: type[Connection], options: Options) -> None:
        """`tag` is the hash tag of our keys."""
        self.places = places
        self.slot = key_slot(tag.encode())
        self._known = list(places)
        self._kind = kind
        self._options = options

    async def find(self) -> HostPort:
        """Ask for the master of our slot. Raises what the last of the nodes has raised when none answers."""
        return (await self.nodes())[0]

    async def check(self, connection: AbstractConnection) -> None:
        """A node without our slot says so by itself, to each command."""

    async def nodes(self) -> list[HostPort]:
        """The master of our slot, and its replicas."""
        failed: Exception = ConnectionError("no node was asked")
        for _ in range(len(self._known)):
            place = self._known.pop(0)
            self._known.append(place)
            try:
                shards = await self._asked(place)
            except (RedisError, OSError, TimeoutError) as error:
                failed = error
                continue
            self._known = list(dict.fromkeys([*self._known, *(node for *_, nodes in shards for node in nodes)]))
            for first, last, nodes in shards:
                if first <= self.slot <= last:
                    return nodes
            failed = ConnectionError("no node has our slot")
        raise failed

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _asked(self, place: HostPort) -> list[tuple[int, int, list[HostPort]]]:
        connection = self._kind(**self._options, host=place[0], port=place[1])
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("CLUSTER", "SLOTS")
            rows = await connection.read_response()
        except ResponseError as error:
            raise ConnectionError(str(error)) from error
        finally:
            await connection.disconnect(nowait=True)
        return [(first, last, [_node(node, place) for node in nodes]) for first, last, *nodes in rows]


def _node(row: Sequence[Any], asked: HostPort) -> HostPort:
    """A node of an answer to CLUSTER SLOTS. Without a host it is the one that was asked."""
    host = row[0].decode() if row[0] else ""
    return host if host not in ("", "?") else asked[0], int(row[1])


def finder_of(address: RedisAddress, tag: str, options: Options, *, sentinel: Options) -> Finder | None:
    """The finder for an address; None for a server that is at its address. `options` are those of a connection to the
    server, and `sentinel` has user and password of the sentinels."""
    if address.kind == "server":
        return None
    has_tls = issubclass(options["connection_class"], SSLConnection)
    tls = {name: value for name, value in options.items() if name.startswith("ssl_")}
    times = {"socket_timeout": ASKED_S, "socket_connect_timeout": ASKED_S}
    if address.kind == "sentinel":
        return Sentinels(address.asked, address.master, {**tls, **times, **sentinel, "ssl": has_tls})
    own = {name: options[name] for name in ("username", "password") if options.get(name)}
    return Cluster(address.asked, tag, TlsConnection if has_tls else Connection, {**tls, **times, **own})
