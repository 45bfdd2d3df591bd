"""What the server behind the store is: for a person who sets one up."""

import time

from msgspec import Struct

from penstock.store.connection import Redis, translated


class ServerInfo(Struct, frozen=True, kw_only=True):
    """`version` is its own, `major` that of the Redis which it speaks like, 0 when it does not say; `ahead_s` is how
    far its clock is ahead of ours."""

    product: str
    version: str
    major: int
    ahead_s: float


async def look_at(client: Redis) -> ServerInfo:
    """Raises StoreUnavailable when it does not answer. The clock is compared with the middle of a round trip."""
    with translated():
        info = await client.info("server")
        asked = time.time()
        seconds, microseconds = await client.time()
        answered = time.time()
    product, spoken = str(info.get("server_name", "redis")), str(info.get("redis_version", "0"))
    number = spoken.partition(".")[0]
    return ServerInfo(
        product=product,
        version=str(info.get(f"{product}_version", spoken)),
        major=int(number) if number.isdigit() else 0,
        ahead_s=seconds + microseconds / 1e6 - (asked + answered) / 2,
    )
