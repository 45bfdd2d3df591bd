"""Inputs in buckets of the operator, which tasks name as `s3://bucket/key`."""

from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Self

from penstock.errors import (
    ConfigurationError,
    InputDownloadFailed,
    InputNotFound,
    PenstockError,
    StorageUnavailable,
    UrlBlocked,
)
from penstock.settings import StorageSettings
from penstock.storage.s3_client import advice_of, client_of, code_of, read_object

PERMANENT = frozenset({"NoSuchKey", "NoSuchBucket", "AccessDenied", "InvalidObjectState"})
"""Error codes of an object that does not exist or may not be read. Another attempt would get the same answer."""


class S3Inputs:
    """Reads objects with the endpoint and the credentials of the storage. One for each process, used inside `async
    with`. The models of the installation with this namespace are out of its reach."""

    def __init__(self, settings: StorageSettings, namespace: str) -> None:
        self._settings = settings
        self._models = f"{settings.s3_bucket}/{namespace}/models/"
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
        """The bytes of the object. Raises UrlBlocked for a file of a model, InputNotFound when it is missing or denied,
        InputTooLarge, and InputDownloadFailed, the only error that a retry may help."""
        if f"{bucket}/{key}".startswith(self._models):
            raise UrlBlocked("inputs may not be read from the models of this server")
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
