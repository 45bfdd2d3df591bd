"""The S3 client of the vendor: how it is made, how long a call may take, and what its errors mean to the operator."""

import asyncio
import logging
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any

from penstock.errors import ConfigurationError, PenstockError, ResultExpired, StorageUnavailable
from penstock.settings import StorageSettings
from penstock.storage.contract import CHUNK_BYTES, too_large

ANSWER_WITHIN_S = 30.0
SLOWEST_BYTES_PER_S = 256 * 1024
"""One call may take ANSWER_WITHIN_S, and a second more for each SLOWEST_BYTES_PER_S. The vendor's own timeouts do not
apply while a body is sent, nor while the server lets a byte through now and then."""

_CUSTOM_ENDPOINT = {
    "s3": {"addressing_style": "path"},  # <bucket>.<host> resolves only where DNS was set up for it
    # By default every upload ends with a checksum trailer, which many servers other than AWS refuse.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}

_KEY_ADVICE = "check storage.s3_access_key and storage.s3_secret_key"
_BUCKET_ADVICE = "check storage.s3_bucket, storage.s3_endpoint and storage.s3_region"
_NETWORK_ADVICE = "it does not answer: check storage.s3_endpoint and the network"
_NOT_S3_ADVICE = "the server there does not speak S3, or is a proxy in front of one: check storage.s3_endpoint"
_LOG_ADVICE = "see the log of the storage"
_NO_CODE_ADVICE = "without an error code of S3: see its log, or that of a proxy in front of it"
_RIGHTS_ADVICE = "the key needs GetObject, PutObject, DeleteObject and ListBucket on storage.s3_bucket"
_NO_CREDENTIALS_ADVICE = "it has no credentials: set storage.s3_access_key and storage.s3_secret_key"
_ENDED_CREDENTIALS_ADVICE = (
    "the credentials of this machine have expired: check the role, or the service that issues new ones"
)
_PROFILE_ADVICE = "check AWS_PROFILE and the AWS configuration files"
_TLS_ADVICE = "TLS fails: check the scheme and port of storage.s3_endpoint, and the certificate there"
_CA_FILE_ADVICE = "the file of trusted CAs cannot be read: AWS_CA_BUNDLE must name a file with certificates in PEM"

_BEHIND: tuple[tuple[type[BaseException], str, str], ...] = (
    (
        ssl.SSLCertVerificationError,
        "",
        "its certificate is not trusted here: set AWS_CA_BUNDLE to a PEM file with the CA, and let storage.s3_endpoint "
        "name the host of the certificate",
    ),
    (
        ssl.SSLError,
        "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST",
        "its port does not speak TLS: let storage.s3_endpoint begin with http://, or name another port",
    ),
    (ssl.SSLError, "X509|NO_CERTIFICATE|PEM", _CA_FILE_ADVICE),
    (ssl.SSLError, "", _TLS_ADVICE),
    (FileNotFoundError, "", _CA_FILE_ADVICE),
    (PermissionError, "", _CA_FILE_ADVICE),
    (
        socket.gaierror,
        "",
        "its host name does not resolve: check the host in storage.s3_endpoint, and DNS",
    ),
    (
        ConnectionRefusedError,
        "",
        "it refuses connections: start it, or check host and port in storage.s3_endpoint",
    ),
    (
        Exception,
        "reset by peer|Server disconnected|closed before we received",
        "it breaks connections: see its log; if its port speaks TLS, storage.s3_endpoint must begin with https://",
    ),
)
"""The class of an error or of one of its causes, a pattern in its text, and the advice; the first row that fits
counts."""

_BY_CODE = {
    "SignatureDoesNotMatch": _KEY_ADVICE,
    "InvalidAccessKeyId": _KEY_ADVICE,
    "ExpiredToken": "renew the credentials of this machine",
    # Without the right ListBucket, AWS says so for an object that does not exist. An answer to HEAD has no code.
    "AccessDenied": _RIGHTS_ADVICE,
    "403": _RIGHTS_ADVICE,
    "NoSuchBucket": "create the bucket, or " + _BUCKET_ADVICE,
    "InvalidBucketName": _BUCKET_ADVICE,
    "PermanentRedirect": _BUCKET_ADVICE,
    "AuthorizationHeaderMalformed": _BUCKET_ADVICE,
    "RequestTimeTooSkewed": "set the clock of this machine",
}
_BY_STATUS = {
    "400": _NO_CODE_ADVICE + "; if its port speaks TLS, storage.s3_endpoint must begin with https://",
}
"""Advice for answers without an error code of S3."""

_BY_KIND = {
    "NoCredentialsError": _NO_CREDENTIALS_ADVICE,
    "PartialCredentialsError": _NO_CREDENTIALS_ADVICE,
    "CredentialRetrievalError": _ENDED_CREDENTIALS_ADVICE,
    "ParamValidationError": _BUCKET_ADVICE,
    "ProfileNotFound": _PROFILE_ADVICE,
    "ConfigParseError": _PROFILE_ADVICE,
    "SSLError": _TLS_ADVICE,
    "ResponseParserError": _NOT_S3_ADVICE,
    "ConnectionError": _NETWORK_ADVICE,
    "HTTPClientError": _NETWORK_ADVICE,
    "ClientError": _NETWORK_ADVICE,  # of its HTTP library; the vendor lets it through while a body is read
    "OSError": _NETWORK_ADVICE,
}
"""Advice by the name of the error's class or of one of its bases. Names, since importing the classes costs 0.3 s."""

_ABANDONED = "coro=<ClientRequest.write_bytes()"
"""When a connection breaks, aiohttp abandons the task that writes the request, and asyncio would log a traceback for
every attempt. The caller has already got the error."""

logging.getLogger("asyncio").addFilter(lambda record: _ABANDONED not in record.getMessage())


def limit_s(size: int = 0) -> float:
    """The seconds that a call with so many bytes may take."""
    return ANSWER_WITHIN_S + size / SLOWEST_BYTES_PER_S


@asynccontextmanager
async def calling(size: int = 0) -> AsyncGenerator[None, None]:
    """Wraps one call with so many bytes: it ends within `limit_s`, and raises StorageUnavailable or ResultExpired for
    whatever the vendor raises."""
    with vendor_errors():
        async with asyncio.timeout(limit_s(size)):
            yield


@contextmanager
def vendor_errors() -> Iterator[None]:
    """Turns every error of the vendor into StorageUnavailable with advice, or ResultExpired."""
    from botocore.exceptions import ClientError

    try:
        yield
    except (PenstockError, ConfigurationError):
        raise
    except ClientError as error:
        raise _from_answer(error.response, error.operation_name) from error
    except Exception as error:  # the vendor lets bare RuntimeErrors and errors of its HTTP library through
        raise StorageUnavailable(f"the storage cannot be used; {advice_of(error)}") from error


def advice_of(error: Exception) -> str:
    """Advice for an error of the vendor that is not an answer of a server."""
    if "credentials" in str(error) and "still expired" in str(error):  # a bare RuntimeError
        return _ENDED_CREDENTIALS_ADVICE
    behind = tuple(_behind(error))
    for cause, pattern, advice in _BEHIND:
        if any(isinstance(one, cause) and re.search(pattern, str(one)) for one in behind):
            return advice
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_KIND:
            return _BY_KIND[kind.__name__]
    return f"the S3 library failed with {type(error).__name__}"


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def code_of(answer: dict[str, Any]) -> str:
    """The error code of an answer, at most 64 characters; empty where it has none."""
    return str(answer.get("Error", {}).get("Code", ""))[:64]


def status_of(answer: dict[str, Any]) -> int:
    """The HTTP status of an answer, 0 where it has none."""
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_unknown_to_server(answer: dict[str, Any]) -> bool:
    """Whether the server refused a request because it does not know it, and not for its credentials or the bucket."""
    return status_of(answer) in (400, 405, 411, 501) and code_of(answer) not in _BY_CODE


def with_etag(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer about one object, checked. Raises StorageUnavailable when it does not come from S3: a 200 of a proxy
    or a login page has no ETag."""
    if not answer.get("ETag"):
        raise StorageUnavailable(f"the storage answered {status_of(answer)} without an ETag; {_NOT_S3_ADVICE}")
    return answer


def a_list(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer to a list request, checked. Raises StorageUnavailable when it is no list: an empty body is not one."""
    if "IsTruncated" not in no_page(answer):
        raise StorageUnavailable(f"the storage answered {status_of(answer)} without a list; {_NOT_S3_ADVICE}")
    return answer


def no_page(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer without an ETag, checked. Raises StorageUnavailable when it is a page of a proxy."""
    content_type = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", "")
    if status_of(answer) != 204 and content_type.startswith(("text/html", "application/json")):
        raise StorageUnavailable(f"the storage answered {status_of(answer)} with a page; {_NOT_S3_ADVICE}")
    return answer


async def read_object(client: Any, bucket: str, key: str, *, limit: int | None) -> bytes:
    """The bytes of an object, read within `limit_s` of its size. Raises InputTooLarge, and the errors of the vendor."""
    started = asyncio.get_running_loop().time()
    async with asyncio.timeout(limit_s()) as patience:
        answer = await client.get_object(Bucket=bucket, Key=key)
        body, data = answer["Body"], bytearray()
        async with body:
            patience.reschedule(started + limit_s(with_etag(answer)["ContentLength"]))
            if limit is not None and answer["ContentLength"] > limit:
                raise too_large(limit)
            while piece := await body.read(CHUNK_BYTES):
                data += piece
                if limit is not None and len(data) > limit:
                    raise too_large(limit)
    return bytes(data)


@asynccontextmanager
async def client_of(settings: StorageSettings, endpoint: str, aws_style: str) -> AsyncGenerator[Any, None]:
    """A client of the vendor. Raises ConfigurationError when a setting cannot be right, StorageUnavailable when the
    machine gets no credentials."""
    import aioboto3  # imported here: it takes 0.3 s, which a process with local storage is spared
    from aiobotocore.config import AioConfig

    from penstock.storage.s3_connections import S3Connections

    if bool(settings.s3_access_key) != bool(settings.s3_secret_key):
        raise ConfigurationError("storage.s3_access_key and storage.s3_secret_key: set both or none")
    config = AioConfig(
        http_session_cls=S3Connections,
        signature_version="s3v4",  # otherwise links are signed by version 2, which newer servers refuse
        # With these a refused connection fails within 3 s; with the defaults it takes 12 s.
        retries={"mode": "standard", "total_max_attempts": 3},
        connect_timeout=3,
        read_timeout=20,
        max_pool_connections=32,
        **(_CUSTOM_ENDPOINT if endpoint else {"s3": {"addressing_style": aws_style}}),
    )
    async with AsyncExitStack() as stack:
        with _wrong_settings():
            session = aioboto3.Session(
                aws_access_key_id=settings.s3_access_key or None,
                aws_secret_access_key=settings.s3_secret_key or None,
                region_name=settings.s3_region,
            )
            client = session.client("s3", endpoint_url=endpoint or None, config=config)
            opened = await stack.enter_async_context(client)
        yield opened


@contextmanager
def _wrong_settings() -> Iterator[None]:
    from botocore.exceptions import ConfigParseError, ProfileNotFound

    with vendor_errors():
        try:
            yield
        except (ProfileNotFound, ConfigParseError) as error:
            raise ConfigurationError(f"the AWS settings of this machine: {error}; {_PROFILE_ADVICE}") from error
        except ValueError as error:  # "Invalid endpoint", "Invalid region"
            raise ConfigurationError(
                "storage.s3_endpoint, storage.s3_public_endpoint, storage.s3_region: "
                "an endpoint must be a URL such as https://minio.example.com:9000, a region such as us-east-1"
            ) from error


GONE = {
    "GetObject": ("NoSuchKey",),
    "HeadObject": ("404", "NotFound"),
    "DeleteObject": ("NoSuchKey",),
    "UploadPart": ("NoSuchUpload",),
    "CompleteMultipartUpload": ("NoSuchUpload",),
    "AbortMultipartUpload": ("NoSuchUpload",),
}
"""Error codes by which S3 says that an object, or the parts of one, do not exist; only an answer to HEAD may be a bare
404. Any other 404, such as that of a proxy whose backend is being replaced, says nothing about the object."""


def _from_answer(answer: dict[str, Any], operation: str) -> PenstockError:
    code = code_of(answer)
    if code in GONE.get(operation, ()):
        return ResultExpired()
    advice = _BY_CODE.get(code) or _BY_STATUS.get(code) or (_NO_CODE_ADVICE if code.isdigit() else _LOG_ADVICE)
    return StorageUnavailable(f"the storage answered {status_of(answer)} {code}; {advice}")
