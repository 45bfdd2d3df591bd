"""The brake on wrong keys: an address that sends many of them is answered late, and before a key is looked at."""

import asyncio
import math
import re
import time
from collections import OrderedDict

from litestar.types import Scope

from penstock.api.http.addresses import ClientAddresses
from penstock.errors import RateLimited

MOST_ADDRESSES = 10_000
MOST_KNOWN = 10_000
PERIOD_S = 60.0
HOLD_S = 1.0
"""How long a refusal is held back. It costs nothing, and a client that waits for it sends nothing meanwhile."""
MOST_HELD = 128
"""Refusals that are held back at a time; further ones are sent at once, and their connections closed."""

_GUARDED = ("/v1/", "/replicate/", "/console/login")
_BY_SESSION = "/console/v1/"
_OUTPUT = re.compile(r"/replicate/v1/predictions/[^/]+/output/")


class WrongKeys:
    """Counts requests without a right key, by the address of the client, `per_minute` of which are let through.

    It remembers `MOST_ADDRESSES` addresses, each by one number, and forgets the one that was wrong the longest ago.
    Keys that were right are let through: a client behind the same address as an attacker is not refused.
    """

    def __init__(self, addresses: ClientAddresses, per_minute: int) -> None:
        self._addresses = addresses
        self._per_minute = per_minute
        self.late: OrderedDict[str, float] = OrderedDict()
        """Address -> when its wrong keys would have come if they came evenly: in the future, where there are many."""
        self._known: set[int] = set()
        self._held = 0

    async def check(self, scope: Scope, credential: bytes) -> None:
        """Refuse a request of an address with too many wrong keys, after a while. It is needed only if any is `late`.

        Raises RateLimited.
        """
        if hash(credential) in self._known or not _is_guarded(scope):
            return
        ahead_s = self.late.get(self._addresses.of(scope), 0.0) - time.monotonic()
        too_early_s = ahead_s - (PERIOD_S - PERIOD_S / self._per_minute)
        if too_early_s <= 0:
            return
        if self._held < MOST_HELD:
            self._held += 1
            try:
                await asyncio.sleep(HOLD_S)
            finally:
                self._held -= 1
        else:
            scope["state"]["is_last"] = True
        raise RateLimited(
            "too many requests with wrong keys have come from this address",
            retry_after_s=math.ceil(too_early_s),
        )

    def count(self, scope: Scope, credential: bytes) -> None:
        """Count a request that was refused for its key."""
        if not self._per_minute or scope["path"].startswith(_BY_SESSION):
            return  # a page that outlives its session asks on; nobody finds the token of a session by trying
        self._known.discard(hash(credential))
        address, now = self._addresses.of(scope), time.monotonic()
        self.late[address] = max(now, self.late.pop(address, now)) + PERIOD_S / self._per_minute
        oldest = next(iter(self.late))
        if len(self.late) > MOST_ADDRESSES or self.late[oldest] < now:
            del self.late[oldest]

    def is_right(self, credential: bytes) -> None:
        """Remember a key that was right, by a hash that nobody outside of this process can foresee."""
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known.add(hash(credential))


def credential_of(scope: Scope, headers: dict[bytes, bytes]) -> bytes:
    """Return what a request says of its key, as it is written; without one the query, which may have a token."""
    return headers.get(b"x-api-key") or headers.get(b"authorization") or scope["query_string"]


def _is_guarded(scope: Scope) -> bool:
    """Whether a request needs a key or the token of a task; the URLs of uploads and of outputs let in by themselves."""
    path = scope["path"]
    is_upload = scope.get("method") == "PUT" and path.startswith("/v1/uploads/")
    return path.startswith(_GUARDED) and not is_upload and not _OUTPUT.match(path)
