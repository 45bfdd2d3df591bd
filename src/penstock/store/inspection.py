"""What the server behind the store is: for a person who sets one up."""

import time

from msgspec import Struct

from penstock.store.connection import Redis, translated


class ServerInfo(Struct, frozen=True, kw_only=True):
    """`version` is that of Redis that it speaks like, `ahead_s` how far its clock is ahead of ours."""

    product: str
    version: str
    ahead_s: float

    @property
    def major(self) -> int:
        """7 of 7.2.4; 0 when the server does not say."""
        number = self.version.partition(".")[0]
        return int(number) if number.isdigit() else 0


async def look_at(client: Redis) -> ServerInfo:
    """Raises StoreUnavailable when it does not answer. The clock is compared with the middle of a round trip."""
    with translated():
        info = await client.info("server")
        asked = time.time()
        seconds, microseconds = await client.time()
        answered = time.time()
    return ServerInfo(
        product=str(info.get("server_name", "redis")),
        version=str(info.get("redis_version", "0")),
        ahead_s=seconds + microseconds / 1e6 - (asked + answered) / 2,
    )
