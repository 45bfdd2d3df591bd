"""Requests without a right key, as many as possible."""

import threading
import time
from collections import Counter

from tools.attack.attempt import Outcome
from tools.attack.target import Target, cpu_s, head_of, status_of

SENDERS = 16
SECONDS = 10.0
MOST_CPU = 0.2
"""The part of a core that a flood of wrong keys may use."""


def wrong_keys(target: Target) -> Outcome:
    """Send wrong keys from one address over several connections, each with another `X-Forwarded-For`."""
    seconds = SECONDS / 4 if target.is_short else SECONDS
    _flood(target, 0.5)  # what is let through of them
    before, began = cpu_s(target.pid), time.monotonic()
    statuses = _flood(target, seconds)
    used = (cpu_s(target.pid) - before) / (time.monotonic() - began)
    right = target.exchange(_request(target.key, "0"), target.address(9))
    refused, looked_at = statuses[429], statuses.total() - statuses[429]
    got = f"{refused} x 429, {looked_at} looked at, {used:.0%} of a core; a right key {status_of(right)}"
    return Outcome(got, looked_at <= 2 * seconds + 2 and used <= MOST_CPU and status_of(right) == 200)


def _flood(target: Target, seconds: float) -> Counter[int]:
    statuses: Counter[int] = Counter()
    ends = time.monotonic() + seconds
    threads = [threading.Thread(target=_send, args=(target, number, ends, statuses)) for number in range(SENDERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses


def _send(target: Target, number: int, ends: float, statuses: Counter[int]) -> None:
    while time.monotonic() < ends:
        number += SENDERS
        answer = target.exchange(_request(f"wrong-key-{number}", f"192.0.2.{number % 256}"), target.address(8))
        statuses[status_of(answer)] += 1


def _request(key: str, forwarded: str) -> bytes:
    lines = (f"X-API-Key: {key}", f"X-Forwarded-For: {forwarded}", "Connection: close")
    return head_of("GET", "/v1/tasks", *lines)
