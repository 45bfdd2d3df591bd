"""Objects of buckets that are not ours: inputs that tasks name as `s3://bucket/key`."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from types import TracebackType
from typing import Any, Self

from penstock.errors import ConfigurationError, InputDownloadFailed, InputNotFound, PenstockError, StorageUnavailable
from penstock.settings import StorageSettings
from penstock.storage.s3_client import advice_of, client_of, code_of, read_object

NOT_FOR_US = frozenset({"NoSuchKey", "NoSuchBucket", "AccessDenied", "InvalidObjectState"})
"""What a bucket says of an object that is not there, or not ours to read; it would say so again."""


class S3Inputs:
    """Reads with the endpoint and the keys of the storage; one client for a process, open while it is entered."""

    def __init__(self, settings: StorageSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Raises ConfigurationError when a setting cannot be right."""
        self._client = await self._stack.enter_async_context(
            client_of(self._settings, self._settings.s3_endpoint, "auto")
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def read(self, bucket: str, key: str, *, limit: int) -> bytes:
        """The object. Raises InputNotFound when it is missing or denied, InputTooLarge, and InputDownloadFailed, the
        only one worth a retry."""
        with _translated():
            return await read_object(self._client, bucket, key, limit=limit)


@contextmanager
def _translated() -> Iterator[None]:
    from botocore.exceptions import ClientError

    try:
        yield
    except StorageUnavailable as error:
        raise InputDownloadFailed(error.detail) from error
    except (PenstockError, ConfigurationError):
        raise
    except ClientError as error:
        raise _from_answer(code_of(error.response)) from error
    except Exception as error:
        raise InputDownloadFailed(f"the bucket does not answer, or broke off; {advice_of(error)}") from error


def _from_answer(code: str) -> PenstockError:
    if code in NOT_FOR_US:
        return InputNotFound(f"the bucket answered {code}: the object is not there, or not for this server to read")
    return InputDownloadFailed(f"the bucket answered {code}")
