"""Connections that say nothing, say it slowly, or never come to an end."""

import socket
import time
from contextlib import ExitStack, suppress

from tools.attack.attempt import Outcome
from tools.attack.target import FILES, RECEIVE_S, Target, head_of, many, sent_and_read, status_of

SILENT = 10_000
ENDLESS, UNFINISHED_BYTES = 12, 31 * 1024 * 1024
PATIENT_S = 2 * RECEIVE_S + 3
"""Until then a body of which nothing more comes has to be gone."""
_GET = head_of("GET", "/livez")


def silent(target: Target) -> Outcome:
    """Hold as many connections as there are addresses: a third never say a word, the others say a byte after their
    answer."""
    with ExitStack() as stack:
        held = many(target, target.count(SILENT), stack)
        for number, connection in enumerate(held):
            if number % 3:
                _try_to_send(connection, _GET)
                _try_to_send(connection, b"G" if number % 3 == 1 else b"\r")
        open_now = sum(map(_is_open, held))
        time.sleep(RECEIVE_S + 1 if target.is_short else 12)
        open_later = sum(map(_is_open, held))
    return Outcome(f"{len(held):,} opened, {open_now} held, {open_later} in the end", open_now < FILES > open_later)


def slow_heads(target: Target) -> Outcome:
    """Send one header for ever, a byte at a time."""
    with ExitStack() as stack:
        held = many(target, 50, stack)
        began = time.monotonic()
        for connection in held:
            connection.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")
        while held and time.monotonic() - began < PATIENT_S:
            time.sleep(0.5)
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
        while left and time.monotonic() - began < PATIENT_S + 60:
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
        time.sleep(PATIENT_S)
        left = sum(map(_is_open, held))
    return Outcome(f"50 opened, {left} in the end", left == 0)


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
