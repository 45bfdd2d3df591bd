"""What a storage backend can do, and what all of them share."""

import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from penstock.errors import InputTooLarge, ResultExpired, StorageUnavailable

CHUNK_BYTES = 256 * 1024
"""Of a streamed object: large enough that the hop to a thread does not matter, small against its memory."""


MARKER = "installation"
"""The object that says whose objects the others of this namespace are."""


class UploadLink(Struct, frozen=True):
    """A signed link to PUT to, and the headers that are part of what is signed."""

    url: str
    headers: dict[str, str]


class Item(NamedTuple):
    """An object to be stored."""

    key: str
    data: bytes
    content_type: str


class Stored(NamedTuple):
    """An object that is there: bytes, and the ms when it was stored."""

    key: str
    size: int
    modified: int


class Storage(Protocol):
    """What a backend can do. Every method raises StorageUnavailable when the backend cannot be reached, is full, does
    not answer in time or answers what no storage would, and ValueError for a key that is not one of ours; its text
    never holds a secret. Keys are those of one namespace: what others keep in the same place is out of reach.
    """

    def full_key(self, key: str) -> str:
        """The key by which the bucket, or the directory, knows the object: it begins with the namespace."""

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

    def list(self, prefix: str) -> AsyncIterator[Stored]:
        """The objects whose keys begin with the prefix, which ends with `/`; in pages, in no order. What is stored or
        deleted meanwhile may be among them or not."""

    async def delete(self, *keys: str) -> None:
        """Deletes these objects, many at a time; one that is not there is fine. When it raises, some may be gone."""

    async def clear(self, *prefixes: str) -> None:
        """Deletes all objects whose keys begin with one of these prefixes, each of which ends with `/`; fine when there
        is none. When it raises, some may be gone."""

    async def probe(self) -> None:
        """Writes, reads and deletes a small object; raises StorageUnavailable, saying what to do."""

    async def look(self) -> None:
        """As `probe`, for one who asks again and again: it leaves no versions behind in a bucket that keeps them, since
        it only reads as long as writes were seen to succeed within the last hour."""

    async def keeps_versions(self) -> bool:
        """Whether what is deleted stays as an old version; False also where the storage does not say."""

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """A link to the object, valid for `storage.url_ttl_s`; None: the API has to serve the bytes."""

    async def upload_link(self, key: str, *, size: int, content_type: str, sha256: str | None) -> UploadLink | None:
        """Where a client may put exactly this object, until `storage.url_ttl_s` from now; None: the API has to take
        the bytes."""


_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,7}")


def is_key(key: str) -> bool:
    """Whether it may be one of ours: relative, without `..`, NUL, or a segment that is empty or starts with a dot."""
    return _KEY.fullmatch(key) is not None


def checked_key(key: str) -> str:
    """The key. Raises ValueError unless it may be one of ours."""
    if not is_key(key):
        raise ValueError(f"not a storage key: {key[:200]!r}")
    return key


def checked_prefix(prefix: str) -> str:
    """The prefix. Raises ValueError unless it is a key and a `/`."""
    if not prefix.endswith("/") or not is_key(prefix[:-1]):
        raise ValueError(f"not a prefix of storage keys: {prefix[:200]!r}")
    return prefix


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
