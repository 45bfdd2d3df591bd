"""The contract of storage backends, and what all of them share."""

import re
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from penstock.errors import InputTooLarge, ResultExpired, StorageUnavailable

CHUNK_BYTES = 256 * 1024
"""Bytes of one piece of a stream: large enough that the hop to a thread does not matter, and small in memory."""


MARKER = "installation"
"""The key of the object that names the installation to which all objects of the namespace belong."""


class UploadLink(Struct, frozen=True):
    """A signed link for a PUT, and the headers that the PUT must carry because they are signed as well."""

    url: str
    headers: dict[str, str]


class Item(NamedTuple):
    """An object to store; `once` as in `Storage.put`."""

    key: str
    data: bytes
    content_type: str
    once: bool = False


class Stored(NamedTuple):
    """A stored object: its size in bytes, and when it was stored, in ms since 1970. One that is `unfinished` is still
    written in parts, or was given up; the text tells several with one key apart."""

    key: str
    size: int
    modified: int
    unfinished: str = ""


class PartWriter(Protocol):
    """Stores one object in parts. Nothing of it is visible before `publish`. One call at a time, each ended before the
    next begins.

    A call that raises StorageUnavailable may be repeated. ResultExpired says that parts which were stored are gone:
    only `discard` makes sense then.
    """

    part_bytes: int
    """The bytes of each part but the last."""

    async def write(self, part: bytes) -> None:
        """Store the next part. It is not stored when this raises."""

    async def publish(self, last: bytes) -> None:
        """Store the last part, of up to `part_bytes`. The object is whole, durable and visible when this returns."""

    async def discard(self) -> None:
        """Delete what was stored, if it was not published. Never raises StorageUnavailable: what cannot be deleted now
        is among the unfinished objects."""


class Storage(Protocol):
    """What a backend can do. Keys are those of one namespace; other objects in the same place are out of reach.

    Every method raises StorageUnavailable when the backend cannot be reached, is full, does not answer in time or
    answers what no storage would, and ValueError for a key that `is_key` refuses. Their texts never hold a secret.
    """

    def full_key(self, key: str) -> str:
        """The key of the object in the bucket or the directory: the namespace and the key."""

    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        """Store the object. It is whole and durable when this returns, and invisible before.

        With `once`, a storage that can do so leaves an object that is there as it is: with the same bytes it counts as
        stored, with others this raises Internal.
        """

    async def put_all(self, items: Sequence[Item]) -> None:
        """Store several objects, faster than one by one. All are whole and durable when this returns; when it raises,
        some may have been stored."""

    def writer(self, key: str, content_type: str) -> PartWriter:
        """What stores the object in parts. It sends nothing before its first part, and must be published or
        discarded."""

    def list_unfinished(self, prefix: str) -> AsyncIterator[Stored]:
        """The objects below the prefix that were begun by a `writer`, and neither published nor discarded, as far as
        the storage knows of them."""

    async def give_up(self, *unfinished: Stored) -> None:
        """Delete the parts of these unfinished objects; one that is gone is no error."""

    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        """The bytes of the object. Raises ResultExpired when it does not exist, and InputTooLarge when it has more
        bytes than the limit; no more than these are read."""

    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes of the object from `start` to before `stop`, in pieces. The range must lie in the object and not be
        empty.

        The object is open when this returns: call `aclose` unless the stream is read to its end. Raises ResultExpired
        at once when the object does not exist; StorageUnavailable may also come between two pieces.
        """

    async def size(self, key: str) -> int:
        """The number of bytes of the object. Raises ResultExpired when it does not exist."""

    def list(self, prefix: str) -> AsyncIterator[Stored]:
        """The objects whose keys begin with the prefix, which ends with `/`, in no order. Objects that are stored or
        deleted meanwhile may be among them or not."""

    async def delete(self, *keys: str) -> None:
        """Delete these objects; one that does not exist is no error. When this raises, some may have been deleted."""

    async def clear(self, *prefixes: str) -> None:
        """Delete all objects whose keys begin with one of these prefixes, each of which ends with `/`. When this
        raises, some may have been deleted."""

    async def probe(self) -> None:
        """Write, read and delete a small object. Raises StorageUnavailable, whose text says what to do."""

    async def check(self) -> None:
        """Like `probe`, but fit for frequent calls: it only reads while a write has succeeded within the last hour, so
        that it leaves few versions behind in a bucket that keeps them."""

    async def stores_once(self) -> bool:
        """Whether the storage itself refuses to replace an object that is stored `once`."""

    async def keeps_versions(self) -> bool:
        """Whether a deleted object stays as an old version. False also where the storage does not tell."""

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """A link to the object, valid for `storage.url_ttl_s`; None where the API must serve the bytes."""

    async def upload_link(self, key: str, *, size: int, content_type: str, sha256: str | None) -> UploadLink | None:
        """A link under which a client can store exactly this object, valid for `storage.url_ttl_s`; None where the API
        must receive the bytes."""


_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,7}")


def is_key(key: str) -> bool:
    """Whether the text may be a key: relative, without NUL, and with no segment that is empty or begins with a dot."""
    return _KEY.fullmatch(key) is not None


def checked_key(key: str) -> str:
    """The key itself. Raises ValueError unless it may be one."""
    if not is_key(key):
        raise ValueError(f"not a storage key: {key[:200]!r}")
    return key


def checked_prefix(prefix: str) -> str:
    """The prefix itself. Raises ValueError unless it is a key and a `/`."""
    if not prefix.endswith("/") or not is_key(prefix[:-1]):
        raise ValueError(f"not a prefix of storage keys: {prefix[:200]!r}")
    return prefix


def too_large(limit: int) -> InputTooLarge:
    """The error of an object with more bytes than the limit."""
    return InputTooLarge(f"the input has more than {limit} bytes")


async def opened(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The generator after its first, empty piece: it has opened the object, or this raises its error.

    Only a generator that has started runs its `finally`; from here on, closing it closes the object.
    """
    await anext(chunks)
    return chunks


async def round_trip(storage: Storage) -> None:
    """Write, read and delete a small object. Raises StorageUnavailable."""
    key, data = f"probe/{secrets.token_hex(16)}", b"penstock"
    await storage.put(key, data, "application/octet-stream")
    try:
        if await storage.get(key) != data:
            raise StorageUnavailable("the storage returned other bytes than were stored")
    except ResultExpired as error:
        raise StorageUnavailable("the storage does not find an object it has just stored") from error
    finally:
        await storage.delete(key)
