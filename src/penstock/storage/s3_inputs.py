"""Inputs in buckets of the operator, which tasks name as `s3://bucket/key`."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Self

from penstock.errors import ConfigurationError, InputDownloadFailed, InputNotFound, PenstockError, StorageUnavailable
from penstock.settings import StorageSettings
from penstock.storage.s3_client import advice_of, client_of, code_of, read_object

PERMANENT = frozenset({"NoSuchKey", "NoSuchBucket", "AccessDenied", "InvalidObjectState"})
"""Error codes of an object that does not exist or may not be read. Another attempt would get the same answer."""


class S3Inputs:
    """Reads objects with the endpoint and the credentials of the storage. One for each process, used inside `async
    with`."""

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

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def read(self, bucket: str, key: str, *, limit: int) -> bytes:
        """The bytes of the object. Raises InputNotFound when it is missing or denied, InputTooLarge, and
        InputDownloadFailed, the only error that a retry may help."""
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
    if code in PERMANENT:
        return InputNotFound(f"the bucket answered {code}: the object does not exist, or this server may not read it")
    return InputDownloadFailed(f"the bucket answered {code}")
