"""Address: what redis.url says: a server, or who is to be asked for it: sentinels, or the nodes of a cluster."""

import re
from typing import Literal, NamedTuple

HostPort = tuple[str, int]
"""Host and port of a server."""

SENTINELS, CLUSTER = "sentinel", "cluster"

_KIND = re.compile(r"rediss?\+(sentinel|cluster)://")
_PLAIN = ("redis://", "rediss://", "unix://")
_GROUP = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://(?:(?P<user>[^/?#]*)@)?(?P<hosts>[^/?#@]*)(?P<path>/[^?#]*)?"
    r"(?P<query>\?[^#]*)?"
)
_HOST = re.compile(r"(?:\[(?P<address>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:\s]+))(?::(?P<port>[0-9]{1,5}))?")
_PORTS = {SENTINELS: 26379, CLUSTER: 6379}
_FORMS = {
    SENTINELS: "redis+sentinel://host1:26379,host2:26379/MASTER, where MASTER is the name that the sentinels know",
    CLUSTER: "redis+cluster://host1:6379,host2:6379",
}


class RedisAddress(NamedTuple):
    """A URL, taken apart: `url` is one of redis-py, with the first of the hosts; `asked` are those that say where the
    server is, and none for a URL of one server."""

    url: str
    kind: Literal["server", "sentinel", "cluster"] = "server"
    asked: tuple[HostPort, ...] = ()
    master: str = ""


def address_of(url: str) -> RedisAddress:
    """Take a URL apart. Raises ValueError, in words without any part of the URL, for one that has not the form of its
    scheme; a URL of one server is left to redis-py."""
    grouped = _KIND.match(url)
    if grouped is None and not url.startswith(_PLAIN):
        raise ValueError(f"must begin with {', '.join(_PLAIN)}, redis+sentinel:// or redis+cluster://")
    if grouped is None:
        return RedisAddress(url)
    found = _GROUP.fullmatch(url)
    if found is None:
        raise ValueError(
            f"must be {_FORMS[grouped[1]]}; characters such as / # ? @ in a password have to be percent-encoded"
        )
    kind, user = found["kind"], f"{found['user']}@" if found["user"] else ""
    asked = tuple(_place(text, kind) for text in found["hosts"].split(","))
    master, _, database = (found["path"] or "").strip("/").partition("/")
    if bool(master) is not (kind == SENTINELS) or (database and not database.isdigit()):
        raise ValueError(f"must be {_FORMS[kind]}")
    host, port = asked[0]
    one = f"{found['scheme']}://{user}{f'[{host}]' if ':' in host else host}:{port}/{database or 0}"
    return RedisAddress(one + (found["query"] or ""), "sentinel" if kind == SENTINELS else "cluster", asked, master)


def _place(text: str, kind: str) -> HostPort:
    found = _HOST.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"must be {_FORMS[kind]}")
    return found["address"] or found["name"], int(found["port"] or _PORTS[kind])
