"""What the system gives a process that serves: open files, and how many connections they allow."""

import resource
from typing import NamedTuple

from loguru import logger

from penstock.settings import ApiSettings

MOST_FILES = 65_536
"""Limit of open files to ask for, more than the connections that one process can serve."""
MOST_BY_DEFAULT = 8_192
"""Connections of a process, where the operator does not say how many. A silent one takes some 10 KiB."""
LEAST = 16


def raise_file_limit() -> int:
    """Raise the limit of open files as far as the system allows, `MOST_FILES` at most, and return it.

    Many systems start a process with a limit of 1,024, fewer than the clients and webhooks of a busy server.
    """
    soft, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = most if 0 <= most < MOST_FILES else MOST_FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
    return max(soft, wanted)


class Connections(NamedTuple):
    """How many connections there may be in all, and of one address, and how many requests in progress of one tenant."""

    most: int
    most_of_one: int
    most_of_tenant: int


def connections_for(api: ApiSettings, files: int) -> Connections:
    """Return how many connections there may be with this limit of open files.

    A quarter of the files is left for Redis, the storage, webhooks, and the files that clients read. Logs a warning
    when that is less than the operator has asked for, and when it is little.
    """
    room = max(LEAST, files - files // 4)
    most = min(api.max_connections or MOST_BY_DEFAULT, room)
    if most < api.max_connections:
        logger.bind(files=files, connections=most).warning(
            "the limit of open files allows fewer connections than api.max_connections: raise it (ulimit -n, "
            "LimitNOFILE= of systemd)"
        )
    elif room < min(MOST_BY_DEFAULT, 1024) and not api.max_connections:
        logger.bind(files=files, connections=most).warning(
            "the limit of open files allows few connections: raise it (ulimit -n, LimitNOFILE= of systemd)"
        )
    most_of_one = min(api.max_connections_per_address or max(1, most // 2), most)
    return Connections(most, most_of_one, api.max_requests_per_tenant or max(1, most_of_one // 2))
