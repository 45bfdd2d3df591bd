"""What a Redis on another machine should have: a password, TLS, and no known hole in its Lua."""

from collections.abc import Mapping
from typing import Any

MENDED: dict[str, dict[tuple[int, int], int]] = {
    "redis": {(6, 2): 20, (7, 2): 11, (7, 4): 6, (8, 0): 4, (8, 2): 2},
    "valkey": {(7, 2): 11, (8, 0): 6, (8, 1): 4},
}
"""The first release of each line without CVE-2025-49844, 46817, 46818 and 46819, with which whoever may send scripts
takes over the server: https://redis.io/blog/security-advisory-cve-2025-49844/ and the release notes of Valkey. Other
lines up to the newest here have no such release."""


def warnings_of(connection: Mapping[str, Any], *, is_encrypted: bool, product: str, version: str) -> list[str]:
    """Return what is missing, each with what to do. `connection` has the arguments of redis-py's connections.

    A host without a dot in its name is one of a container network: nothing is said of TLS.
    """
    found = []
    if not connection.get("password"):
        found.append(
            "Redis takes commands without a password: whoever reaches it has all tasks (set requirepass and "
            "redis.password, or name a user with an ACL in redis.url)"
        )
    if not is_encrypted and "." in str(connection.get("host")):
        found.append("passwords and tasks go to Redis without TLS (use rediss:// in redis.url, or a private network)")
    if not is_mended(product, version):
        found.append(
            f"{product.capitalize()} {version} is older than the mend of CVE-2025-49844, unless its distribution has "
            f"put it into this one ({_releases(product)})"
        )
    return found


def is_mended(product: str, version: str) -> bool:
    """Return whether a release has no known hole in its Lua; of a server that we do not know nothing is said."""
    lines = MENDED.get(product)
    numbers = version.split(".")
    if not lines or len(numbers) != 3 or not all(number.isdigit() for number in numbers):
        return True
    major, minor, patch = map(int, numbers)
    if (major, minor) > max(lines):
        return True
    return (major, minor) in lines and patch >= lines[major, minor]


def _releases(product: str) -> str:
    return (
        "take "
        + ", ".join(f"{major}.{minor}.{patch}" for (major, minor), patch in MENDED[product].items())
        + " or newer"
    )
