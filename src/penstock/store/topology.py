"""Topology: which servers stand behind the one that we use, and who would make one of them the next."""

from msgspec import Struct

from penstock.store.connection import Redis, translated
from penstock.store.finders import Cluster, Sentinels


class Topology(Struct, frozen=True, kw_only=True):
    """The server (`host:port`), its replicas that are connected, and how many of them a write needs (0 also where
    CONFIG may not be read).

    Of `sentinels` that are named in redis.url, `agree` name this server, and `quorum` must find it down; all three are
    0 in a cluster, where `slot` is that of our keys.
    """

    server: str
    replicas: int
    min_replicas: int
    sentinels: int = 0
    agree: int = 0
    quorum: int = 0
    slot: int | None = None


async def topology_of(client: Redis) -> Topology | None:
    """Ask sentinels or nodes, and the server itself; None for a server that nobody watches. Raises StoreUnavailable."""
    finder = client.finder
    if finder is None:
        return None
    with translated():
        host, port = await finder.find()
        replication = await client.info("replication")
        wanted = await client.config_get("min-*-to-write")
    of_finder: dict[str, int] = {}
    if isinstance(finder, Sentinels):
        said = await finder.each()
        of_finder = {
            "sentinels": len(finder.places),
            "agree": sum((one["ip"], one["port"]) == (host, port) for one in said),
            "quorum": max((one["quorum"] for one in said), default=0),
        }
    elif isinstance(finder, Cluster):
        of_finder = {"slot": finder.slot}
    return Topology(
        server=f"{host}:{port}",
        replicas=int(replication.get("connected_slaves", 0)),
        min_replicas=max((int(value) for value in wanted.values()), default=0),
        **of_finder,
    )
