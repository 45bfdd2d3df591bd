"""Where results are kept: one protocol, a directory or an S3 bucket behind it.

Objects are immutable: a key, `results/<tenant>/<task>/<epoch>.png`, is built from our own ids and belongs to
one attempt, so nothing is ever overwritten with other bytes and a late worker cannot spoil a result. Inputs that
came with a task are `inputs/<tenant>/<task>`, of a line of a batch with `-` and a mark of who has stored it behind,
those that were uploaded before `uploads/<tenant>/<upload>`, the lines of a batch `batches/<tenant>/<batch>/<part>`. In
the bucket or directory, every key stands below the namespace of the installation, so that several may share one.
"""

from contextlib import AbstractAsyncContextManager, nullcontext

from penstock.settings import StorageSettings
from penstock.storage.contract import CHUNK_BYTES, MARKER, Item, Storage, Stored, UploadLink
from penstock.storage.local import LocalStorage
from penstock.storage.s3 import S3Storage
from penstock.storage.s3_inputs import S3Inputs

__all__ = [
    "CHUNK_BYTES",
    "MARKER",
    "Item",
    "LocalStorage",
    "S3Inputs",
    "S3Storage",
    "Storage",
    "Stored",
    "UploadLink",
    "open_storage",
]


def open_storage(settings: StorageSettings, namespace: str) -> AbstractAsyncContextManager[Storage]:
    """The configured backend with the objects of one installation, usable inside the `async with`. Entering it does
    not ask the storage anything.

    Raises on entering: ConfigurationError when a setting cannot be right, StorageUnavailable when the credentials of
    the machine cannot be had.
    """
    if settings.local:
        return nullcontext(LocalStorage(settings.directory, namespace))
    return S3Storage(settings, namespace)
