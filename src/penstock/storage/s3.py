"""The storage in an S3 bucket."""

import asyncio
import re
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, aclosing, suppress
from typing import Any, Self, TypeVar

from penstock.errors import Internal, ResultExpired, StorageUnavailable
from penstock.settings import StorageSettings
from penstock.storage.call_spans import traced_calls
from penstock.storage.contract import (
    CHUNK_BYTES,
    MARKER,
    Item,
    PartWriter,
    Stored,
    UploadLink,
    checked_key,
    checked_prefix,
    is_key,
    opened,
    round_trip,
)
from penstock.storage.s3_client import (
    SLOWEST_BYTES_PER_S,
    a_list,
    calling,
    client_of,
    is_unknown_to_server,
    limit_s,
    no_page,
    read_object,
    status_of,
    vendor_errors,
    with_etag,
)
from penstock.storage.s3_multipart import MultipartWriter, abort, unfinished
from penstock.storage.timing import timed

T = TypeVar("T")
R = TypeVar("R")

PUTS_AT_ONCE = 8
"""Uploads at a time. The client has 32 connections, and other tasks need some meanwhile."""
DELETES_AT_ONCE = 16
DELETED_TOGETHER = 250
"""Keys in one request. S3 takes 1,000, but a server that needs 40 ms for each key would not answer in time."""

TAKEN = 412
"""The status of a put with `If-None-Match: *` for a key that has an object."""

WRITE_AGAIN_S = 3600.0
"""`check` writes once in this time only: in a versioned bucket, every write stays as a version."""


@traced_calls
class S3Storage:
    """The Storage whose objects are in a bucket, below the namespace. One for each process, used inside `async with`.

    Entering blocks the event loop for about 0.3 s, in which the vendor reads its service model: do it before serving.
    """

    def __init__(self, settings: StorageSettings, namespace: str) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket
        self._root = f"{namespace}/"
        self._client: Any = None
        self._signer: Any = None
        self._stack = AsyncExitStack()
        self._wrote = float("-inf")
        self._deletes_singly = False
        self._puts_over = False

    async def __aenter__(self) -> Self:
        """Raises ConfigurationError when a setting cannot be right, StorageUnavailable when the machine gets no
        credentials."""
        endpoint = self._settings.s3_endpoint
        public = self._settings.s3_public_endpoint or endpoint
        async with AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(client_of(self._settings, endpoint, "auto"))
            # Links to AWS name the region only in this style; without it they fail outside us-east-1.
            self._signer = await stack.enter_async_context(client_of(self._settings, public, "virtual"))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    def full_key(self, key: str) -> str:
        return self._root + checked_key(key)

    @timed("put")
    async def put(self, key: str, data: bytes, content_type: str, once: bool = False) -> None:
        name = self.full_key(key)
        try:
            async with calling(len(data)):
                await (self._put_once if once else self._put)(name, data, content_type)
        except StorageUnavailable:
            self._wrote = float("-inf")
            raise
        self._wrote = time.monotonic()

    async def put_all(self, items: Sequence[Item]) -> None:
        """Store the objects, PUTS_AT_ONCE at a time."""
        await _side_by_side(lambda item: self.put(*item), items, PUTS_AT_ONCE)

    def writer(self, key: str, content_type: str) -> PartWriter:
        return MultipartWriter(self._client, self._bucket, self.full_key(key), content_type)

    async def list_unfinished(self, prefix: str) -> AsyncIterator[Stored]:
        """Multipart uploads. None where the server does not list them, or the key may not (ListBucketMultipartUploads);
        MinIO lists none by a prefix, and ends them after a day by itself."""
        place = self._root + checked_prefix(prefix)
        async for stored in unfinished(self._client, self._bucket, self._root, place):
            if is_key(stored.key):
                yield stored

    async def give_up(self, *unfinished: Stored) -> None:
        for one in unfinished:
            upload = {"Bucket": self._bucket, "Key": self.full_key(one.key), "UploadId": one.unfinished}
            await abort(self._client, upload)

    @timed("get")
    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        name = self.full_key(key)
        with vendor_errors():
            return await read_object(self._client, self._bucket, name, limit=limit)

    @timed("open")
    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        part = {} if (start, stop) == (0, None) else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        return await opened(self._chunks(self.full_key(key), part))

    @timed("size")
    async def size(self, key: str) -> int:
        name = self.full_key(key)
        async with calling():
            answer = with_etag(await self._client.head_object(Bucket=self._bucket, Key=name))
            return int(answer["ContentLength"])

    async def list(self, prefix: str) -> AsyncIterator[Stored]:
        """List the objects, with a request for every 1,000."""
        place = self._root + checked_prefix(prefix)
        token: dict[str, str] = {}
        while True:
            async with calling():
                answer = a_list(await self._client.list_objects_v2(Bucket=self._bucket, Prefix=place, **token))
                page = [self._stored(entry) for entry in answer.get("Contents", ())]
                token = {"ContinuationToken": answer["NextContinuationToken"]} if answer.get("IsTruncated") else {}
            for stored in page:
                if is_key(stored.key):
                    yield stored
            if not token:
                return

    @timed("delete")
    async def delete(self, *keys: str) -> None:
        """Delete many objects with one request; one by one those that the server leaves, or where it refuses such
        requests."""
        names = [self.full_key(key) for key in keys]
        for at in range(0, len(names), DELETED_TOGETHER):
            left = await self._delete_together(names[at : at + DELETED_TOGETHER])
            await _side_by_side(self._delete_one, left, DELETES_AT_ONCE)

    async def clear(self, *prefixes: str) -> None:
        places = [checked_prefix(prefix) for prefix in prefixes]
        pages = await _side_by_side(self._keys_below, places, DELETES_AT_ONCE)
        await self.delete(*(key for keys in pages for key in keys))

    async def probe(self) -> None:
        await round_trip(self)

    async def check(self) -> None:
        """Read one object, whether it exists or not; when the last write has failed or was long ago, `probe`."""
        if time.monotonic() - self._wrote > WRITE_AGAIN_S:
            await self.probe()
            return
        with suppress(ResultExpired):
            await self.get(MARKER)

    async def stores_once(self) -> bool:
        key = f"probe/{secrets.token_hex(16)}"
        try:
            await self.put(key, b"first", "text/plain", once=True)
            await self.put(key, b"other", "text/plain", once=True)
        except Internal:
            return True
        finally:
            await self.delete(key)
        return False

    async def keeps_versions(self) -> bool:
        try:
            async with calling():
                answer = await self._client.get_bucket_versioning(Bucket=self._bucket)
        except (StorageUnavailable, ResultExpired):
            return False
        return "Status" in answer

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """A link for `storage.s3_public_endpoint` where that is set. Links are signed without a request to the
        bucket."""
        parameters = {
            "Bucket": self._bucket,
            "Key": self.full_key(key),
            "ResponseContentType": content_type,
            "ResponseContentDisposition": _attachment(filename),
        }
        return await self._link("get_object", parameters)

    async def upload_link(self, key: str, *, size: int, content_type: str, sha256: str | None) -> UploadLink | None:
        """A link in which size and type are signed. The server compares the digest, if it knows this checksum."""
        parameters = {
            "Bucket": self._bucket,
            "Key": self.full_key(key),
            "ContentLength": size,
            "ContentType": content_type,
        }
        headers = {"content-length": str(size), "content-type": content_type}
        if sha256 is not None:
            checksum = b64encode(bytes.fromhex(sha256)).decode()
            parameters["ChecksumSHA256"] = headers["x-amz-checksum-sha256"] = checksum
        return UploadLink(await self._link("put_object", parameters), headers)

    async def _put_once(self, name: str, data: bytes, content_type: str) -> None:
        """Store the object unless there is one; a server that does not know such a request puts it over that."""
        from botocore.exceptions import ClientError

        condition = {} if self._puts_over else {"IfNoneMatch": "*"}
        try:
            await self._put(name, data, content_type, **condition)
        except ClientError as error:
            if status_of(error.response) == TAKEN:
                await self._check_same(name, data)
            elif condition and is_unknown_to_server(error.response):
                await self._put(name, data, content_type)
                self._puts_over = True
            else:
                raise

    async def _put(self, name: str, data: bytes, content_type: str, **condition: str) -> None:
        stored = self._client.put_object(
            Bucket=self._bucket, Key=name, Body=data, ContentType=content_type, **condition
        )
        with_etag(no_page(await stored))

    async def _check_same(self, name: str, data: bytes) -> None:
        """Raises Internal unless the object has these bytes; then only the answer to an earlier put was lost."""
        try:
            is_same = await self._holds(name, data)
        except ResultExpired as error:
            raise StorageUnavailable("the storage refuses to replace an object that it does not find") from error
        if not is_same:
            raise Internal("the storage has other bytes under the key of a new object")

    async def _holds(self, name: str, data: bytes) -> bool:
        rest = memoryview(data)
        async with aclosing(self._chunks(name, {})) as pieces:
            async for piece in pieces:
                if rest[: len(piece)] != piece:
                    return False
                rest = rest[len(piece) :]
        return not rest

    async def _link(self, verb: str, parameters: dict[str, Any]) -> str:
        async with calling():  # the credentials of a role may have to be renewed first
            link: str = await self._signer.generate_presigned_url(
                verb, Params=parameters, ExpiresIn=self._settings.url_ttl_s
            )
        return link

    async def _chunks(self, name: str, part: dict[str, str]) -> AsyncGenerator[bytes, None]:
        # The reader may take any time between two pieces; only the time of the server counts.
        clock = asyncio.get_running_loop().time
        async with calling():
            answer = await self._client.get_object(Bucket=self._bucket, Key=name, **part)
            body = answer["Body"]
        async with body:  # read from `body` itself: the object that `async with` returns does not check the length
            left_s = limit_s(with_etag(answer).get("ContentLength", 0))
            yield b""
            while True:
                started = clock()
                with vendor_errors():
                    async with asyncio.timeout(left_s):
                        piece: bytes = await body.read(CHUNK_BYTES)
                left_s -= clock() - started
                if not piece:
                    return
                yield piece

    def _stored(self, entry: dict[str, Any]) -> Stored:
        modified = int(entry["LastModified"].timestamp() * 1000)
        return Stored(str(entry["Key"]).removeprefix(self._root), int(entry["Size"]), modified)

    async def _keys_below(self, prefix: str) -> Sequence[str]:
        return [stored.key async for stored in self.list(prefix)]

    async def _delete_together(self, names: Sequence[str]) -> Sequence[str]:
        """Delete the objects with one request. Returns the names that the server did not confirm.

        A server that does not know such requests gets no more of them from this process.
        """
        from botocore.exceptions import ClientError

        if len(names) == 1 or self._deletes_singly:
            return names
        objects = {"Objects": [{"Key": name} for name in names]}
        async with calling(len(names) * SLOWEST_BYTES_PER_S):
            try:
                answer = no_page(await self._client.delete_objects(Bucket=self._bucket, Delete=objects))
            except ClientError as error:
                if not is_unknown_to_server(error.response):
                    raise
                self._deletes_singly = True
                return names
            deleted = {entry["Key"] for entry in answer.get("Deleted", ())}
        return [name for name in names if name not in deleted]

    async def _delete_one(self, name: str) -> None:
        with suppress(ResultExpired):
            async with calling():
                no_page(await self._client.delete_object(Bucket=self._bucket, Key=name))


async def _side_by_side(act: Callable[[T], Awaitable[R]], items: Iterable[T], at_once: int) -> Sequence[R]:
    """The results of `act` for all items, `at_once` at a time. When some fail, the others are still done, and then the
    first error is raised."""
    slots = asyncio.Semaphore(at_once)

    async def one(item: T) -> R:
        async with slots:
            return await act(item)

    acts = [asyncio.ensure_future(one(item)) for item in items]
    await asyncio.gather(*acts, return_exceptions=True)
    return [act.result() for act in acts]


def _attachment(filename: str) -> str:
    """The Content-Disposition that makes a browser save the file. No character of the name can end the header."""
    return f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "_", filename)}"'
