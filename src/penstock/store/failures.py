"""Failures: what can be wrong between a process and Redis, in one table of refusals and one of broken connections.

Each message says what is wrong and, after a semicolon, what to change. None contains a part of redis.url, which holds a
password.
"""

import re
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

from redis.asyncio.sentinel import MasterNotFoundError
from redis.exceptions import (
    AskError,
    AuthenticationError,
    BusyLoadingError,
    ConnectionError,  # noqa: A004  the vendor's name
    InvalidResponse,
    MovedError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)
from redis.exceptions import TimeoutError as RedisTimeoutError

from penstock.errors import StoreUnavailable


class Refusal(NamedTuple):
    """What a failure means for clients: `ends_connection` says that the connection leads to the wrong server,
    `is_setting` that the failure stays until somebody changes a setting."""

    detail: str
    retry_after_s: int
    ends_connection: bool = False
    is_setting: bool = False


class WrongServer(ConnectionError):
    """The server has our keys no longer, or is no master. Nothing was done, and the connection is left at once."""


class WrongSetting(StoreUnavailable):
    """Redis cannot be used before somebody changes a setting, here or in Redis; at start this is a configuration error.

    Its code is that of StoreUnavailable.
    """


_HELD_UP = Refusal("the task store is held up by a script that runs long", 1)

REFUSALS = {
    "READONLY": Refusal("the task store is a replica, which takes no writes", 1, ends_connection=True),
    "MASTERDOWN": Refusal("the task store is a replica that has lost its master", 1, ends_connection=True),
    "UNBLOCKED": Refusal("the task store has become a replica", 1, ends_connection=True),
    "LOADING": Refusal("the task store is loading its data", 1, ends_connection=True),
    "MOVED": Refusal(
        "the task store is a node of a cluster that has our keys on another node; set redis.url to "
        "redis+cluster://host1,host2, or to a Redis without cluster mode",
        1,
        ends_connection=True,
        is_setting=True,
    ),
    "BUSY": _HELD_UP,
    "UNKILLABLE": _HELD_UP,
    "TRYAGAIN": Refusal("the task store is moving its keys to another node", 1),
    "ASK": Refusal("the task store is moving its keys to another node", 1),
    "CLUSTERDOWN": Refusal("the task store is a cluster that is down; see CLUSTER INFO on it", 1, ends_connection=True),
    "NOREPLICAS": Refusal("the task store refuses writes: too few of its replicas are there", 5),
    "MISCONF": Refusal("the task store refuses writes: it cannot save them to its disk; free space, or see its log", 5),
    "OOM": Refusal("the task store refuses writes: its memory is full; raise maxmemory of Redis, or delete tasks", 5),
    "NOAUTH": Refusal(
        "the task store wants a password; set redis.password, or redis.url as redis://:PASSWORD@host:port",
        5,
        is_setting=True,
    ),
    "WRONGPASS": Refusal(
        "the task store refuses the user or the password; correct redis.password, or redis.url (where characters such "
        "as @ : / # have to be percent-encoded, and whose password has precedence)",
        5,
        is_setting=True,
    ),
    "NOPASS": Refusal(
        "the task store has no password; take it out of redis.password or redis.url, or set requirepass in Redis",
        5,
        is_setting=True,
    ),
    "NOPERM": Refusal(
        "the task store does not allow its user a command that is needed; give the user of redis.url all commands on "
        "the keys of redis.namespace",
        5,
        is_setting=True,
    ),
    "DENIED": Refusal(
        "the task store is in protected mode, which lets only its own machine in; set requirepass in Redis, and "
        "redis.password",
        5,
        is_setting=True,
    ),
}
"""Refusals by the first word of the answer; nothing was done. Any other error of Redis is a fault of Penstock, and
is raised as it is."""

_TYPES: dict[type[Exception], str] = {
    ReadOnlyError: "READONLY",
    BusyLoadingError: "LOADING",
    OutOfMemoryError: "OOM",
    NoPermissionError: "NOPERM",
    MovedError: "MOVED",
    AskError: "ASK",
}
"""Where redis-py has a class for an answer, it leaves the word out of the text."""

_OF_AUTHENTICATION = {"Authentication required": "NOAUTH", "without any password": "NOPASS"}
"""First words by a part of the text, since redis-py has one class for all of them; any other is WRONGPASS."""

_CODE = re.compile(rf"\b({'|'.join(REFUSALS)})\b")
"""An older server has the word inside a sentence about the script."""

_AWAY = Refusal("the task store cannot be reached; check redis.url and the network", 1)
_DATABASE = Refusal(
    "the task store has no database of this number; change the number at the end of redis.url (a cluster has 0 only)",
    5,
    is_setting=True,
)

_CONNECTIONS: tuple[tuple[type[BaseException], str, Refusal], ...] = (
    (WrongServer, "", Refusal("the task store fails over to another server, or has just done so", 1)),
    (
        MasterNotFoundError,
        "Authenti|WRONGPASS|NOAUTH|NOPERM|username-password",
        Refusal(
            "the sentinels refuse the user or the password; correct redis.sentinel_password and "
            "redis.sentinel_username",
            5,
            is_setting=True,
        ),
    ),
    (
        MasterNotFoundError,
        "",
        Refusal(
            "the sentinels that answer name no master that is up; wait for their failover, or correct the name of the "
            "master, or the sentinels, in redis.url",
            1,
        ),
    ),
    (
        ConnectionError,
        "cluster support disabled",
        Refusal("the task store is no cluster; begin redis.url with redis://", 5, is_setting=True),
    ),
    (
        ResponseError,
        "unknown command .SENTINEL",
        Refusal(
            "what redis.url names is no sentinel; name the sentinels (port 26379), or begin redis.url with redis://",
            5,
            is_setting=True,
        ),
    ),
    (ConnectionError, "no node has our slot", Refusal("no node of the task store has our keys; see CLUSTER SLOTS", 1)),
    (AuthenticationError, "Authentication required", REFUSALS["NOAUTH"]),
    (AuthenticationError, "", REFUSALS["WRONGPASS"]),
    (
        ssl.SSLCertVerificationError,
        "expired|not yet valid",
        Refusal("the task store has a certificate that is out of date; renew it, or set the clock of this machine", 5),
    ),
    (
        ssl.SSLCertVerificationError,
        "[Hh]ostname mismatch|IP address mismatch|not valid for",
        Refusal(
            "the task store has a certificate for another host; put the host that it is for into redis.url, or into "
            "what sentinels and nodes announce",
            5,
            is_setting=True,
        ),
    ),
    (
        ssl.SSLCertVerificationError,
        "",
        Refusal(
            "the task store has a certificate that is not trusted here; name the file of its CA in redis.tls_ca",
            5,
            is_setting=True,
        ),
    ),
    (
        ssl.SSLError,
        "CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|BAD_CERTIFICATE|UNKNOWN_CA",
        Refusal(
            "the task store wants a client certificate that it trusts; name it in redis.tls_certificate and "
            "redis.tls_key, or set tls-auth-clients no in Redis",
            5,
            is_setting=True,
        ),
    ),
    (
        ssl.SSLError,
        "PEM|KEY_VALUES_MISMATCH|NO_START_LINE|BAD_BASE64|no certificate or crl",
        Refusal(
            "redis.tls_ca, redis.tls_certificate or redis.tls_key is no PEM file, or the key is of another certificate",
            5,
            is_setting=True,
        ),
    ),
    (
        ssl.SSLError,
        "",
        Refusal(
            "the task store does not speak TLS as redis.url wants it; begin redis.url with redis:// for a plain port",
            5,
            is_setting=True,
        ),
    ),
    (
        socket.gaierror,
        "",
        Refusal("the host of the task store has no address; check the host in redis.url, and DNS", 1),
    ),
    (
        ConnectionRefusedError,
        "",
        Refusal("the task store refuses connections; start Redis, or check host and port in redis.url", 1),
    ),
    (
        FileNotFoundError,
        "",
        Refusal("a file that redis.url names is not there; check its socket, or redis.tls_ca and the like", 1),
    ),
    (
        PermissionError,
        "",
        Refusal("a file that redis.url names may not be read; check the rights of its socket or certificates", 5),
    ),
    (
        InvalidResponse,
        "",
        Refusal("what answers is no Redis; check host and port in redis.url, and a proxy on the way", 5),
    ),
    (
        Exception,
        "max number of clients",
        Refusal("the task store has too many clients; raise maxclients of Redis", 5),
    ),
    (
        Exception,
        "[Tt]imeout connecting",
        Refusal(
            "the task store does not take a connection in time; check host and port in redis.url, and that rediss:// "
            "goes to a port with TLS",
            1,
        ),
    ),
    (
        TimeoutError,
        "",
        Refusal("the task store does not answer in time; what was asked may be done all the same", 1),
    ),
    (
        RedisTimeoutError,
        "",
        Refusal("the task store does not answer in time; what was asked may be done all the same", 1),
    ),
    (
        Exception,
        "reset by peer|closed by server|Broken pipe",
        Refusal(
            "the task store broke the connection off; see whether it runs, begin redis.url with rediss:// if its port "
            "speaks TLS, and name a client certificate in redis.tls_certificate if it wants one",
            1,
        ),
    ),
)
"""The class of an error or of its cause, a pattern in its text, and what it means; the first row that matches
counts."""


def refusal_of(error: Exception) -> Refusal | None:
    """The refusal that an error of Redis means, or None for a fault of Penstock."""
    if type(error) is AuthenticationError:
        return REFUSALS[next((code for text, code in _OF_AUTHENTICATION.items() if text in str(error)), "WRONGPASS")]
    if type(error) in _TYPES:
        return REFUSALS[_TYPES[type(error)]]
    if not isinstance(error, ResponseError):
        return None
    if "DB index" in str(error) or "SELECT is not allowed" in str(error):
        return _DATABASE
    found = _CODE.search(str(error))
    return REFUSALS[found[1]] if found else None


def failure_of(error: Exception) -> Refusal:
    """Returns the meaning of an error that broke the connection."""
    behind = tuple(_behind(error))
    for kind, pattern, meaning in _CONNECTIONS:
        if any(isinstance(one, kind) and re.search(pattern, str(one)) for one in behind):
            return meaning
    return _AWAY


def unavailable(refusal: Refusal) -> StoreUnavailable:
    """The error with which the store reports a refusal."""
    kind = WrongSetting if refusal.is_setting else StoreUnavailable
    return kind(refusal.detail, retry_after_s=refusal.retry_after_s)


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
