"""What a storage backend can do, and what all of them share."""

import re
import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from penstock.errors import InputTooLarge, ResultExpired, StorageUnavailable

CHUNK_BYTES = 256 * 1024
"""Of a streamed object: large enough that the hop to a thread does not matter, small against its memory."""


class UploadLink(Struct, frozen=True):
    """A signed link to PUT to, and the headers that are part of what is signed."""

    url: str
    headers: dict[str, str]


class Item(NamedTuple):
    """An object to be stored."""

    key: str
    data: bytes
    content_type: str


class Storage(Protocol):
    """What a backend can do. Every method raises StorageUnavailable when the backend cannot be reached or is
    full, and ValueError for a key that is not one of ours; its text never holds a secret.
    """

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Stores the object: whole and durable when this returns, invisible before."""

    async def put_all(self, items: Sequence[Item]) -> None:
        """Stores some objects, for less than one by one: all are whole and durable when this returns. When it raises,
        some may be there."""

    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        """The object. Raises ResultExpired when it is not there, InputTooLarge when it has more bytes than the limit,
        of which no more are read."""

    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """The object, or its bytes from `start` to before `stop`, in pieces, already opened; `aclose` it when not
        read to its end. A part lies inside of the object and is not empty.

        Raises ResultExpired at once when it is not there; StorageUnavailable also between pieces.
        """

    async def size(self, key: str) -> int:
        """Bytes of the object. Raises ResultExpired when it is not there."""

    async def delete(self, *keys: str) -> None:
        """Deletes these objects; one that is not there is fine."""

    async def clear(self, *prefixes: str) -> None:
        """Deletes all objects whose keys begin with one of these prefixes, each of which ends with `/`; fine when there
        is none. When it raises, some may be gone."""

    async def probe(self) -> None:
        """Writes, reads and deletes a small object; raises StorageUnavailable, saying what to do."""

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """A link to the object, valid for `storage.url_ttl_s`; None: the API has to serve the bytes."""

    async def upload_link(self, key: str, *, size: int, content_type: str, sha256: str | None) -> UploadLink | None:
        """Where a client may put exactly this object, until `storage.url_ttl_s` from now; None: the API has to take
        the bytes."""


_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,7}")


def checked_key(key: str) -> str:
    """The key, if it is one: relative, without `..`, NUL, or a segment that is empty or starts with a dot."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key[:200]!r}")
    return key


def too_large(limit: int) -> InputTooLarge:
    """An object has more bytes than the limit."""
    return InputTooLarge(f"the input has more than {limit} bytes")


async def opened(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The generator, run to its first (empty) piece: it has opened the object, or raised.

    Only a generator that has started runs its `finally`, so from here on closing it closes the object.
    """
    await anext(chunks)
    return chunks


async def round_trip(storage: Storage) -> None:
    key, data = f"probe/{secrets.token_hex(16)}", b"penstock"
    await storage.put(key, data, "application/octet-stream")
    try:
        if await storage.get(key) != data:
            raise StorageUnavailable("the storage gave back other bytes than it was given")
    except ResultExpired as error:
        raise StorageUnavailable("the storage does not find an object it has just stored") from error
    finally:
        await storage.delete(key)
