"""Where results are kept: one protocol, a directory or an S3 bucket behind it.

Objects are immutable: a key, `results/<tenant>/<task>/<epoch>.png`, is built from our own ids and belongs to
one attempt, so nothing is ever overwritten with other bytes and a late worker cannot spoil a result.
"""

import asyncio
import errno
import os
import re
import secrets
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
    suppress,
)
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Protocol, Self

from penstock.errors import ConfigurationError, PenstockError, ResultExpired, StorageUnavailable
from penstock.settings import StorageSettings

CHUNK_BYTES = 256 * 1024
"""Of a streamed object: large enough that the hop to a thread does not matter, small against its memory."""


class Storage(Protocol):
    """What a backend can do. Every method raises StorageUnavailable when the backend cannot be reached or is
    full, and ValueError for a key that is not one of ours; its text never holds a secret.
    """

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """Stores the object: whole and durable when this returns, invisible before."""

    async def get(self, key: str) -> bytes:
        """The object. Raises ResultExpired when it is not there."""

    async def stream(self, key: str) -> AsyncGenerator[bytes, None]:
        """The object in pieces, already opened; `aclose` it when not read to its end.

        Raises ResultExpired at once when it is not there; StorageUnavailable also between pieces.
        """

    async def delete(self, *keys: str) -> None:
        """Deletes these objects; one that is not there is fine."""

    async def probe(self) -> None:
        """Writes, reads and deletes a small object; raises StorageUnavailable, saying what to do."""

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """A link to the object, valid for `storage.url_ttl_s`; None: the API has to serve the bytes."""


def open_storage(settings: StorageSettings) -> AbstractAsyncContextManager[Storage]:
    """The configured backend, usable inside the `async with`. Entering it does not touch the network.

    Raises ConfigurationError on entering, when a setting cannot be right.
    """
    return nullcontext(LocalStorage(settings.directory)) if settings.local else S3Storage(settings)


# --- keys ---------------------------------------------------------------------------------------------------

_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,7}")


def _checked(key: str) -> str:
    """The key, if it is one: relative, without `..`, NUL, or a segment that is empty or starts with a dot."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a storage key: {key[:200]!r}")
    return key


async def _opened(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The generator, run to its first (empty) piece: it has opened the object, or raised.

    Only a generator that has started runs its `finally`, so from here on closing it closes the object.
    """
    await anext(chunks)
    return chunks


async def _probe(storage: Storage) -> None:
    key, data = f"probe/{secrets.token_hex(16)}", b"penstock"
    await storage.put(key, data, "application/octet-stream")
    try:
        if await storage.get(key) != data:
            raise StorageUnavailable("the storage gave back other bytes than it was given")
    except ResultExpired as error:
        raise StorageUnavailable("the storage does not find an object it has just stored") from error
    finally:
        await storage.delete(key)


# --- a directory --------------------------------------------------------------------------------------------

STALE_AFTER_S = 3600.0
"""An unfinished file this old belongs to a process that is gone; no write takes that long."""


class LocalStorage:
    """Objects as files below a directory, which several processes of one machine may share.

    New directories are 0700, files 0600. All file work happens in threads, so a cancelled `put` may still
    complete.
    """

    def __init__(self, directory: str | Path) -> None:
        self._root = Path(directory).absolute()
        self._unfinished = self._root / ".unfinished"

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """See Storage. The content type is not kept: who serves a result knows it from the task."""
        await asyncio.to_thread(self._write, key, data)

    async def get(self, key: str) -> bytes:
        """See Storage."""
        return await asyncio.to_thread(self._read, key)

    async def stream(self, key: str) -> AsyncGenerator[bytes, None]:
        """See Storage."""
        return await _opened(self._chunks(key))

    async def delete(self, *keys: str) -> None:
        """See Storage."""
        for key in keys:
            await asyncio.to_thread(self._remove, key)

    async def probe(self) -> None:
        """See Storage. Also removes what killed processes have left unfinished."""
        await _probe(self)
        await asyncio.to_thread(self._sweep)

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """None, always."""
        return None

    async def _chunks(self, key: str) -> AsyncGenerator[bytes, None]:
        with await asyncio.to_thread(self._open, key) as file:
            yield b""
            while chunk := await asyncio.to_thread(_read_some, file):
                yield chunk

    def _write(self, key: str, data: bytes) -> None:
        """Written and synced under another name first: a reader sees all of an object or nothing of it."""
        path, unfinished = self._path(key), self._unfinished / secrets.token_hex(16)
        with _disk_errors():
            try:
                _make_directory(self._unfinished)
                _write_synced(unfinished, data)
                _move_synced(unfinished, path)
            finally:
                with suppress(OSError):
                    unfinished.unlink(missing_ok=True)

    def _read(self, key: str) -> bytes:
        with self._open(key) as file, _disk_errors():
            return file.read()

    def _open(self, key: str) -> BinaryIO:
        path = self._path(key)
        with _disk_errors():
            try:
                return path.open("rb")
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
                raise ResultExpired from error

    def _remove(self, key: str) -> None:
        path = self._path(key)
        with _disk_errors():
            with suppress(FileNotFoundError, NotADirectoryError):
                path.unlink()
            self._remove_empty(path)

    def _remove_empty(self, path: Path) -> None:
        """A directory per task would otherwise stay for ever."""
        for parent in path.parents:
            if parent == self._root:
                return
            try:
                parent.rmdir()
            except OSError:  # not empty, or already gone: either way not ours to remove
                return

    def _sweep(self) -> None:
        with _disk_errors():
            for path in self._unfinished.iterdir():
                with suppress(FileNotFoundError):  # another process sweeps too
                    if time.time() - path.stat().st_mtime > STALE_AFTER_S:
                        path.unlink()

    def _path(self, key: str) -> Path:
        path = self._root / _checked(key)
        if not path.resolve().is_relative_to(self._root.resolve()):  # a link that somebody has put there
            raise ValueError(f"not a storage key: {key[:200]!r}")
        return path


def _write_synced(path: Path, data: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _move_synced(source: Path, target: Path) -> None:
    for _ in range(100):
        try:
            _make_directory(target.parent)
            source.replace(target)
        except FileNotFoundError:  # a `delete` beside us has removed the directory, empty until now
            continue
        return _sync(target.parent)
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))


def _make_directory(path: Path) -> None:
    """The directory and its parents, so that they survive a power cut; fine where they exist."""
    if path.is_dir():
        return
    _make_directory(path.parent)
    path.mkdir(mode=0o700, exist_ok=True)
    _sync(path.parent)


def _sync(directory: Path) -> None:
    """A new name is durable only once its directory is."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_some(file: BinaryIO) -> bytes:
    with _disk_errors():
        return file.read(CHUNK_BYTES)


@contextmanager
def _disk_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # strerror only: the full text has the path.
        reason = os.strerror(error.errno) if error.errno else "unknown error"
        raise StorageUnavailable(f"storage.directory: {reason}; {_disk_advice(error.errno)}") from error


def _disk_advice(number: int | None) -> str:
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "free space on its disk, or keep results shorter with queue.result_ttl_s"
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "let the user that runs Penstock write there, or set another directory"
    return "check the directory and its disk"


# --- an S3 bucket -------------------------------------------------------------------------------------------

_CUSTOM_ENDPOINT = {
    "s3": {"addressing_style": "path"},  # <bucket>.<host> resolves only where somebody has arranged for it
    # By default every upload has a checksum trailer, which many servers other than AWS refuse.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}

_KEY_ADVICE = "check storage.s3_access_key and storage.s3_secret_key"
_BUCKET_ADVICE = "check storage.s3_bucket, storage.s3_endpoint and storage.s3_region"
_ADVICE = {
    "SignatureDoesNotMatch": _KEY_ADVICE,
    "InvalidAccessKeyId": _KEY_ADVICE,
    "ExpiredToken": "renew the credentials of this machine",
    # Without ListBucket, AWS answers so for an object that is merely gone.
    "AccessDenied": "the key needs GetObject, PutObject, DeleteObject and ListBucket on storage.s3_bucket",
    "NoSuchBucket": "create the bucket, or " + _BUCKET_ADVICE,
    "InvalidBucketName": _BUCKET_ADVICE,
    "PermanentRedirect": _BUCKET_ADVICE,
    "AuthorizationHeaderMalformed": _BUCKET_ADVICE,
    "RequestTimeTooSkewed": "set the clock of this machine",
}


class S3Storage:
    """Objects in a bucket; one client for the process, open while it is entered.

    Entering blocks the event loop for about 0.3 s (the vendor reads its service model): do it before serving.
    """

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings
        self._bucket = settings.s3_bucket
        self._client: Any = None
        self._signer: Any = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Raises ConfigurationError when a setting cannot be right."""
        endpoint = self._settings.s3_endpoint
        public = self._settings.s3_public_endpoint or endpoint
        async with AsyncExitStack() as stack:
            self._client = await stack.enter_async_context(_client(self._settings, endpoint, "auto"))
            # Links to AWS name the region only in this style; without it they fail outside us-east-1.
            self._signer = await stack.enter_async_context(_client(self._settings, public, "virtual"))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """See Storage."""
        with _s3_errors():
            await self._client.put_object(Bucket=self._bucket, Key=_checked(key), Body=data, ContentType=content_type)

    async def get(self, key: str) -> bytes:
        """See Storage."""
        with _s3_errors():
            body = await self._open(key)
            async with body:
                data: bytes = await body.read()
        return data

    async def stream(self, key: str) -> AsyncGenerator[bytes, None]:
        """See Storage."""
        return await _opened(self._chunks(key))

    async def delete(self, *keys: str) -> None:
        """See Storage. One request each: the batch request needs a checksum that not every server knows."""
        for key in keys:
            with suppress(ResultExpired), _s3_errors():
                await self._client.delete_object(Bucket=self._bucket, Key=_checked(key))

    async def probe(self) -> None:
        """See Storage."""
        await _probe(self)

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """See Storage. Signed here, without a request, for `storage.s3_public_endpoint` where it is set."""
        parameters = {
            "Bucket": self._bucket,
            "Key": _checked(key),
            "ResponseContentType": content_type,
            "ResponseContentDisposition": _attachment(filename),
        }
        with _s3_errors():
            link: str = await self._signer.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=self._settings.url_ttl_s
            )
        return link

    async def _chunks(self, key: str) -> AsyncGenerator[bytes, None]:
        with _s3_errors():
            body = await self._open(key)
        async with body:
            yield b""
            while chunk := await _read_piece(body):
                yield chunk

    async def _open(self, key: str) -> Any:
        """The body. Read from it, not from what its `async with` gives: that one does not check the length."""
        answer = await self._client.get_object(Bucket=self._bucket, Key=_checked(key))
        return answer["Body"]


def _client(settings: StorageSettings, endpoint: str, aws_style: str) -> AbstractAsyncContextManager[Any]:
    import aioboto3  # imported here: it costs 0.3 s, which a process with local storage need not pay
    from botocore.config import Config

    if bool(settings.s3_access_key) != bool(settings.s3_secret_key):
        raise ConfigurationError("storage.s3_access_key and storage.s3_secret_key: set both or neither")
    session = aioboto3.Session(
        aws_access_key_id=settings.s3_access_key or None,
        aws_secret_access_key=settings.s3_secret_key or None,
        region_name=settings.s3_region,
    )
    config = Config(
        signature_version="s3v4",  # without it, links are signed the old way, which newer servers refuse
        # A refused connection fails within 3 s so; with the defaults it takes 12 s.
        retries={"mode": "standard", "total_max_attempts": 3},
        connect_timeout=3,
        read_timeout=20,
        max_pool_connections=32,
        **(_CUSTOM_ENDPOINT if endpoint else {"s3": {"addressing_style": aws_style}}),
    )
    return _checked_client(session.client("s3", endpoint_url=endpoint or None, config=config))


@asynccontextmanager
async def _checked_client(client: AbstractAsyncContextManager[Any]) -> AsyncGenerator[Any, None]:
    async with AsyncExitStack() as stack:
        try:
            opened = await stack.enter_async_context(client)
        except ValueError as error:  # "Invalid endpoint", "Invalid region"
            raise ConfigurationError(
                "storage.s3_endpoint, storage.s3_public_endpoint, storage.s3_region: "
                "an endpoint must be a URL such as https://minio.example.com:9000, a region such as us-east-1"
            ) from error
        yield opened


async def _read_piece(body: Any) -> bytes:
    with _s3_errors():
        piece: bytes = await body.read(CHUNK_BYTES)
    return piece


def _attachment(filename: str) -> str:
    """The header that makes a browser save the file; a quote or line break in the name cannot end it."""
    return f'attachment; filename="{re.sub(r"[^A-Za-z0-9._-]", "_", filename)}"'


@contextmanager
def _s3_errors() -> Iterator[None]:
    from aiobotocore import response as vendor
    from botocore.exceptions import BotoCoreError, ClientError

    try:
        yield
    except ClientError as error:
        raise _from_answer(error.response) from error
    except (BotoCoreError, OSError, TimeoutError, vendor.aiohttp.ClientError) as error:
        # The vendor lets some errors of its HTTP library through as they are while a body is read.
        raise StorageUnavailable(f"the storage cannot be used; {_no_answer_advice(error)}") from error


def _from_answer(answer: dict[str, Any]) -> PenstockError:
    code = str(answer.get("Error", {}).get("Code", ""))[:64]
    if code in ("NoSuchKey", "NotFound", "404"):
        return ResultExpired()
    status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    advice = _ADVICE.get(code, "look into the log of the storage")
    return StorageUnavailable(f"the storage answered {status} {code}; {advice}")


def _no_answer_advice(error: Exception) -> str:
    from botocore.exceptions import NoCredentialsError, ParamValidationError, PartialCredentialsError

    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return "it has no credentials: set storage.s3_access_key and storage.s3_secret_key"
    if isinstance(error, ParamValidationError):
        return _BUCKET_ADVICE
    return "it does not answer: check storage.s3_endpoint and the network"
