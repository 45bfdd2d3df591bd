"""The vendor's client of S3: how it is made, how long one call may take, and what its errors mean."""

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
"""One call may take ANSWER_WITHIN_S, and a second more for each of these: the vendor's own limits do not count while a
body is sent, nor while a peer lets one byte through now and then."""

_CUSTOM_ENDPOINT = {
    "s3": {"addressing_style": "path"},  # <bucket>.<host> resolves only where somebody has arranged for it
    # By default every upload has a checksum trailer, which many servers other than AWS refuse.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}

_KEY_ADVICE = "check storage.s3_access_key and storage.s3_secret_key"
_BUCKET_ADVICE = "check storage.s3_bucket, storage.s3_endpoint and storage.s3_region"
_NETWORK_ADVICE = "it does not answer: check storage.s3_endpoint and the network"
_NOT_S3_ADVICE = "what answers there is no S3, or a proxy before it: check storage.s3_endpoint"
_LOG_ADVICE = "look into the log of the storage"
_NO_CODE_ADVICE = "without a code of S3: look into its log, or that of a proxy before it"
_RIGHTS_ADVICE = "the key needs GetObject, PutObject, DeleteObject and ListBucket on storage.s3_bucket"
_NO_CREDENTIALS_ADVICE = "it has no credentials: set storage.s3_access_key and storage.s3_secret_key"
_ENDED_CREDENTIALS_ADVICE = (
    "the credentials of this machine have ended and no new ones come: see to the role, or the service that gives them"
)
_PROFILE_ADVICE = "check AWS_PROFILE and the files that it names"
_TLS_ADVICE = "TLS fails: check the scheme and port of storage.s3_endpoint, and the certificate there"
_CA_FILE_ADVICE = "the file of trusted CAs cannot be read: AWS_CA_BUNDLE must name a file with certificates in PEM"

_BEHIND: tuple[tuple[type[BaseException], str, str], ...] = (
    (
        ssl.SSLCertVerificationError,
        "",
        "its certificate is not trusted here: name the CA by AWS_CA_BUNDLE (a PEM file), and the host that "
        "the certificate is for by storage.s3_endpoint",
    ),
    (
        ssl.SSLError,
        "WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|HTTP_REQUEST",
        "its port does not speak TLS: begin storage.s3_endpoint with http://, or name the port that does",
    ),
    (ssl.SSLError, "X509|NO_CERTIFICATE|PEM", _CA_FILE_ADVICE),
    (ssl.SSLError, "", _TLS_ADVICE),
    (FileNotFoundError, "", _CA_FILE_ADVICE),
    (PermissionError, "", _CA_FILE_ADVICE),
    (
        socket.gaierror,
        "",
        "its host has no address: check the host in storage.s3_endpoint, and DNS",
    ),
    (
        ConnectionRefusedError,
        "",
        "it refuses connections: start it, or check host and port in storage.s3_endpoint",
    ),
    (
        Exception,
        "reset by peer|Server disconnected|closed before we received",
        "it breaks connections off: see its log, and begin storage.s3_endpoint with https:// if its port speaks TLS",
    ),
)
"""Class of the error, or of one behind it, a pattern in its text, and what to do; the first row that fits counts."""

_BY_CODE = {
    "SignatureDoesNotMatch": _KEY_ADVICE,
    "InvalidAccessKeyId": _KEY_ADVICE,
    "ExpiredToken": "renew the credentials of this machine",
    # Without ListBucket, AWS answers so for an object that is merely gone; an answer to HEAD has no code.
    "AccessDenied": _RIGHTS_ADVICE,
    "403": _RIGHTS_ADVICE,
    "NoSuchBucket": "create the bucket, or " + _BUCKET_ADVICE,
    "InvalidBucketName": _BUCKET_ADVICE,
    "PermanentRedirect": _BUCKET_ADVICE,
    "AuthorizationHeaderMalformed": _BUCKET_ADVICE,
    "RequestTimeTooSkewed": "set the clock of this machine",
}
_BY_STATUS = {
    "400": _NO_CODE_ADVICE + "; if its port speaks TLS, begin storage.s3_endpoint with https://",
}
"""Where an answer has no code of S3."""

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
    "ClientError": _NETWORK_ADVICE,  # of its HTTP library, which the vendor lets through while a body is read
    "OSError": _NETWORK_ADVICE,
}
"""By the name of the error's class, or of one of its bases."""

_ABANDONED = "coro=<ClientRequest.write_bytes()"
"""aiohttp leaves the task that writes a request behind when the connection breaks first; whoever waited for the answer
has heard of it, and the log would have a traceback for each try."""

logging.getLogger("asyncio").addFilter(lambda record: _ABANDONED not in record.getMessage())


def limit_s(size: int = 0) -> float:
    """Seconds that one call may take which carries so many bytes."""
    return ANSWER_WITHIN_S + size / SLOWEST_BYTES_PER_S


@asynccontextmanager
async def calling(size: int = 0) -> AsyncGenerator[None, None]:
    """Around one call that carries so many bytes: it ends within `limit_s`, and raises StorageUnavailable or
    ResultExpired, whatever the vendor raises."""
    with vendor_errors():
        async with asyncio.timeout(limit_s(size)):
            yield


@contextmanager
def vendor_errors() -> Iterator[None]:
    """Every error inside that is not ours becomes StorageUnavailable with advice, or ResultExpired. The vendor's list
    is open: it lets bare RuntimeErrors and errors of its HTTP library through."""
    from botocore.exceptions import ClientError

    try:
        yield
    except (PenstockError, ConfigurationError):
        raise
    except ClientError as error:
        raise _from_answer(error.response, error.operation_name) from error
    except Exception as error:
        raise StorageUnavailable(f"the storage cannot be used; {advice_of(error)}") from error


def advice_of(error: Exception) -> str:
    """What to do about an error of the vendor that is no answer of a server."""
    if "credentials" in str(error) and "still expired" in str(error):  # a bare RuntimeError
        return _ENDED_CREDENTIALS_ADVICE
    behind = tuple(_behind(error))
    for cause, pattern, advice in _BEHIND:
        if any(isinstance(one, cause) and re.search(pattern, str(one)) for one in behind):
            return advice
    for kind in type(error).__mro__:
        if kind.__name__ in _BY_KIND:
            return _BY_KIND[kind.__name__]
    return f"the library that speaks to it failed with {type(error).__name__}"


def _behind(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def code_of(answer: dict[str, Any]) -> str:
    """The error code of an answer; its status where it has none."""
    return str(answer.get("Error", {}).get("Code", ""))[:64]


def status_of(answer: dict[str, Any]) -> int:
    """The HTTP status of an answer; 0 where there is none."""
    return int(answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def is_unknown_to_server(answer: dict[str, Any]) -> bool:
    """Whether a server refuses a request as one that it does not know, rather than for its key or the bucket."""
    return status_of(answer) in (400, 405, 411, 501) and code_of(answer) not in _BY_CODE


def with_etag(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer about one object. Raises StorageUnavailable when it is not the store's: a 200 of a proxy or a login
    page has no ETag."""
    if not answer.get("ETag"):
        raise StorageUnavailable(f"the storage answered {status_of(answer)} without an ETag; {_NOT_S3_ADVICE}")
    return answer


def a_list(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer to a list. Raises StorageUnavailable when it is none: an empty body is not an empty list."""
    if "IsTruncated" not in no_page(answer):
        raise StorageUnavailable(f"the storage answered {status_of(answer)} without a list; {_NOT_S3_ADVICE}")
    return answer


def no_page(answer: dict[str, Any]) -> dict[str, Any]:
    """The answer, of those that have no ETag. Raises StorageUnavailable when it is a page."""
    content_type = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {}).get("content-type", "")
    if status_of(answer) != 204 and content_type.startswith(("text/html", "application/json")):
        raise StorageUnavailable(f"the storage answered {status_of(answer)} with a page; {_NOT_S3_ADVICE}")
    return answer


async def read_object(client: Any, bucket: str, key: str, *, limit: int | None) -> bytes:
    """The whole object, within the time that its size allows. Raises InputTooLarge, and what the vendor does."""
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
    machine's credentials cannot be had."""
    import aioboto3  # imported here: it costs 0.3 s, which a process with local storage need not pay
    from botocore.config import Config

    if bool(settings.s3_access_key) != bool(settings.s3_secret_key):
        raise ConfigurationError("storage.s3_access_key and storage.s3_secret_key: set both or neither")
    config = Config(
        signature_version="s3v4",  # without it, links are signed the old way, which newer servers refuse
        # A refused connection fails within 3 s so; with the defaults it takes 12 s.
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


GONE = {"GetObject": ("NoSuchKey",), "HeadObject": ("404", "NotFound"), "DeleteObject": ("NoSuchKey",)}
"""How a store says that an object is not there; only a HEAD may be answered without a word. Any other 404, as that of a
proxy whose backend is being replaced, says nothing about the object."""


def _from_answer(answer: dict[str, Any], operation: str) -> PenstockError:
    code = code_of(answer)
    if code in GONE.get(operation, ()):
        return ResultExpired()
    advice = _BY_CODE.get(code) or _BY_STATUS.get(code) or (_NO_CODE_ADVICE if code.isdigit() else _LOG_ADVICE)
    return StorageUnavailable(f"the storage answered {status_of(answer)} {code}; {advice}")
