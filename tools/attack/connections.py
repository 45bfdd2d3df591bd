"""Connections that say nothing, say it slowly, or never come to an end."""

import socket
import time
from contextlib import ExitStack, suppress

from tools.attack.attempt import Outcome
from tools.attack.target import FILES, Target, head_of, many, open_files, sent_and_read, status_of

SILENT = 10_000
ENDLESS, UNFINISHED_BYTES = 12, 31 * 1024 * 1024
PATIENCE_S = 30.0
"""The longest time that an attempt waits for the server to end its connections."""
_GET = head_of("GET", "/livez")


def silent(target: Target) -> Outcome:
    """Hold as many connections as there are addresses: a third never say a word, the others say a byte after their
    answer."""
    before = open_files(target.pid)
    with ExitStack() as stack:
        held = many(target, target.count(SILENT), stack)
        for number, connection in enumerate(held):
            if number % 3:
                _try_to_send(connection, _GET)
                _try_to_send(connection, b"G" if number % 3 == 1 else b"\r")
        most = open_files(target.pid)
        time.sleep(target.receive_s + (1 if target.is_short else 8))
        left = open_files(target.pid) - before
    return Outcome(
        f"{len(held):,} opened, {most} files at most, {left} in the end", most < FILES and left < FILES * 3 // 4
    )


def slow_heads(target: Target) -> Outcome:
    """Send one header for ever, a byte at a time."""
    with ExitStack() as stack:
        held = many(target, 50, stack)
        began = time.monotonic()
        for connection in held:
            connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        while held and time.monotonic() - began < PATIENCE_S:
            time.sleep(0.25)
            held = [connection for connection in held if _is_open(connection)]
            for connection in held:
                _try_to_send(connection, b"x")
        took_s = time.monotonic() - began
    return Outcome(f"{50 - len(held)} of 50 ended after {took_s:.0f} s", not held)


def endless_bodies(target: Target) -> Outcome:
    """Begin bodies of 31 MiB, send a mebibyte of each, and then a byte now and then; half of them nothing more."""
    head = head_of(
        "POST", "/v1/tasks", f"X-API-Key: {target.key}", "Content-Type: application/json",
        f"Content-Length: {UNFINISHED_BYTES}",
    )  # fmt: skip
    with ExitStack() as stack:
        held = many(target, ENDLESS, stack)
        began = time.monotonic()
        for connection in held:
            connection.sendall(head + b" " * 50_000)
        left = held
        while left and time.monotonic() - began < PATIENCE_S:
            time.sleep(0.25)
            left = [connection for connection in left if not _has_answer(connection)]
            for connection in left[::2]:
                _try_to_send(connection, b" ")
        took_s = time.monotonic() - began
        statuses = {status_of(sent_and_read(connection, b"")) for connection in held}
    return Outcome(f"{ENDLESS - len(left)} of {ENDLESS} ended after {took_s:.0f} s: {statuses}", statuses == {408})


def late_rests(target: Target) -> Outcome:
    """Leave the body of a refused request unfinished."""
    head = head_of("POST", "/v1/tasks", "X-API-Key: wrong", "Content-Type: application/json", "Content-Length: 1000")
    with ExitStack() as stack:
        held = many(target, 50, stack)
        for connection in held:
            connection.sendall(head)
        time.sleep(0.5)
        for connection in held:
            _try_to_send(connection, b"x")
        began = time.monotonic()
        while held and time.monotonic() - began < PATIENCE_S:
            time.sleep(0.25)
            held = [connection for connection in held if _is_open(connection)]
        took_s = time.monotonic() - began
    return Outcome(f"{50 - len(held)} of 50 ended after {took_s:.0f} s", not held)


def _try_to_send(connection: socket.socket, data: bytes) -> None:
    with suppress(OSError):  # it may be closed
        connection.sendall(data)


def _has_answer(connection: socket.socket) -> bool:
    """Whether the server has answered or closed."""
    connection.setblocking(False)
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    except OSError:
        pass
    finally:
        connection.settimeout(20)
    return True


def _is_open(connection: socket.socket) -> bool:
    """Whether the server still holds the connection; what it has answered is read."""
    connection.setblocking(False)
    try:
        while connection.recv(65_536):
            pass
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False
