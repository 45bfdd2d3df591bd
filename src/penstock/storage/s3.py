"""Objects in an S3 bucket. The only importer of aioboto3 and its botocore."""

import asyncio
import logging
import re
from base64 import b64encode
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from types import TracebackType
from typing import Any, Self

from penstock.errors import ConfigurationError, PenstockError, ResultExpired, StorageUnavailable
from penstock.settings import StorageSettings
from penstock.storage.contract import CHUNK_BYTES, Item, UploadLink, checked_key, opened, round_trip, too_large

_CUSTOM_ENDPOINT = {
    "s3": {"addressing_style": "path"},  # <bucket>.<host> resolves only where somebody has arranged for it
    # By default every upload has a checksum trailer, which many servers other than AWS refuse.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}

PUTS_AT_ONCE = 8
"""Of the 32 connections of a client: others read and write meanwhile."""

_KEY_ADVICE = "check storage.s3_access_key and storage.s3_secret_key"
_BUCKET_ADVICE = "check storage.s3_bucket, storage.s3_endpoint and storage.s3_region"
_ABANDONED = "coro=<ClientRequest.write_bytes()"
"""aiohttp leaves the task that writes a request behind when the connection breaks first; whoever waited for the answer
has heard of it, and the log would have a traceback for each try."""

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


logging.getLogger("asyncio").addFilter(lambda record: _ABANDONED not in record.getMessage())


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
            self._client = await stack.enter_async_context(client_of(self._settings, endpoint, "auto"))
            # Links to AWS name the region only in this style; without it they fail outside us-east-1.
            self._signer = await stack.enter_async_context(client_of(self._settings, public, "virtual"))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def put(self, key: str, data: bytes, content_type: str) -> None:
        """See Storage."""
        with _s3_errors():
            await self._client.put_object(
                Bucket=self._bucket, Key=checked_key(key), Body=data, ContentType=content_type
            )

    async def put_all(self, items: Sequence[Item]) -> None:
        """See Storage. Some requests at a time."""
        room = asyncio.Semaphore(PUTS_AT_ONCE)

        async def put(item: Item) -> None:
            async with room:
                await self.put(*item)

        answers = await asyncio.gather(*map(put, items), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer

    async def get(self, key: str, *, limit: int | None = None) -> bytes:
        """See Storage."""
        with _s3_errors():
            return await read_object(self._client, self._bucket, checked_key(key), limit=limit)

    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """See Storage."""
        part = {} if (start, stop) == (0, None) else {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
        return await opened(self._chunks(key, part))

    async def size(self, key: str) -> int:
        """See Storage."""
        with _s3_errors():
            answer = await self._client.head_object(Bucket=self._bucket, Key=checked_key(key))
        return int(answer["ContentLength"])

    async def delete(self, *keys: str) -> None:
        """See Storage. One request each: the batch request needs a checksum that not every server knows."""
        for key in keys:
            with suppress(ResultExpired), _s3_errors():
                await self._client.delete_object(Bucket=self._bucket, Key=checked_key(key))

    async def clear(self, *prefixes: str) -> None:
        """See Storage."""
        for prefix in prefixes:
            with _s3_errors():
                answer = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix)
            await self.delete(*(found["Key"] for found in answer.get("Contents", ())))

    async def probe(self) -> None:
        """See Storage."""
        await round_trip(self)

    async def url(self, key: str, content_type: str, filename: str) -> str | None:
        """See Storage. Signed here, as every link, without a request, for `storage.s3_public_endpoint` where it is
        set."""
        parameters = {
            "Bucket": self._bucket,
            "Key": checked_key(key),
            "ResponseContentType": content_type,
            "ResponseContentDisposition": _attachment(filename),
        }
        with _s3_errors():
            link: str = await self._signer.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=self._settings.url_ttl_s
            )
        return link

    async def upload_link(self, key: str, *, size: int, content_type: str, sha256: str | None) -> UploadLink | None:
        """See Storage. Size and type are signed; the server compares the digest, if it knows this checksum."""
        parameters = {
            "Bucket": self._bucket,
            "Key": checked_key(key),
            "ContentLength": size,
            "ContentType": content_type,
        }
        headers = {"content-length": str(size), "content-type": content_type}
        if sha256 is not None:
            checksum = b64encode(bytes.fromhex(sha256)).decode()
            parameters["ChecksumSHA256"] = headers["x-amz-checksum-sha256"] = checksum
        with _s3_errors():
            url: str = await self._signer.generate_presigned_url(
                "put_object", Params=parameters, ExpiresIn=self._settings.url_ttl_s
            )
        return UploadLink(url, headers)

    async def _chunks(self, key: str, part: dict[str, str]) -> AsyncGenerator[bytes, None]:
        with _s3_errors():
            body = await self._open(key, **part)
        async with body:
            yield b""
            while chunk := await _read_piece(body):
                yield chunk

    async def _open(self, key: str, **part: str) -> Any:
        """The body. Read from it, not from what its `async with` gives: that one does not check the length."""
        answer = await self._client.get_object(Bucket=self._bucket, Key=checked_key(key), **part)
        return answer["Body"]


async def read_object(client: Any, bucket: str, key: str, *, limit: int | None) -> bytes:
    """The whole object. Raises InputTooLarge, and what the vendor does."""
    answer = await client.get_object(Bucket=bucket, Key=key)
    body, data = answer["Body"], bytearray()
    async with body:
        if limit is not None and answer["ContentLength"] > limit:
            raise too_large(limit)
        while piece := await body.read(CHUNK_BYTES):
            data += piece
            if limit is not None and len(data) > limit:
                raise too_large(limit)
    return bytes(data)


def client_of(settings: StorageSettings, endpoint: str, aws_style: str) -> AbstractAsyncContextManager[Any]:
    """A client of the vendor, to be entered."""
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
