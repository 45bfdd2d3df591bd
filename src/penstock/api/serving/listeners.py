"""The sockets at which the API listens; a parent of several processes binds them without loading the API itself."""

import socket
from contextlib import ExitStack


def bound(host: str, port: int, backlog: int = 0) -> list[socket.socket]:
    """Return a socket for each address of this host; an empty one is every network of the machine. Raises OSError.

    For port 0 all have the same free port. Without a backlog they do not listen yet: connections are refused until a
    process does.
    """
    found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    with ExitStack() as opened:
        sockets: list[socket.socket] = []
        for family, *_, at in dict.fromkeys(found):
            free = sockets[0].getsockname()[1] if sockets else port
            listener = opened.enter_context(_bound((at[0], free, *at[2:]), family))
            if backlog:
                listener.listen(backlog)
            sockets.append(listener)
        opened.pop_all()
    return sockets


def _bound(at: tuple[object, ...], family: int) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)  # IPv4 has a socket of its own
    try:
        listener.bind(at)
    except OSError:
        listener.close()
        raise
    return listener
