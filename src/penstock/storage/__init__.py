"""The storage: bytes by key, in a directory or in an S3 bucket, behind one protocol.

| key | object |
| --- | --- |
| `results/<tenant>/<task>/<claim>.png` | the first file of the result of one attempt; the others are `<claim>-<name>` |
| `inputs/<tenant>/<task>` | the input that came with a task; for a line of a batch, `-` and a random mark follow |
| `inputs/<tenant>/<task>/<n>` | each of several that came with a task |
| `uploads/<tenant>/<upload>` | the bytes of an upload |
| `models/<name>/<version>/…` | a version of a model that operators have pushed |
| `batches/<tenant>/<batch>/<part>` | lines of a batch |

Objects are immutable: a key is made of our own ids and belongs to one attempt, so that nothing is overwritten with
other bytes, and a late worker cannot spoil a result. Every key stands below the namespace of the installation, so that
several installations can share a bucket or a directory.
"""

from contextlib import AbstractAsyncContextManager, nullcontext

from penstock.settings import StorageSettings
from penstock.storage.contract import CHUNK_BYTES, MARKER, Item, PartWriter, Storage, Stored, UploadLink
from penstock.storage.local import LocalStorage
from penstock.storage.s3 import S3Storage
from penstock.storage.s3_inputs import S3Inputs

__all__ = [
    "CHUNK_BYTES",
    "MARKER",
    "Item",
    "LocalStorage",
    "PartWriter",
    "S3Inputs",
    "S3Storage",
    "Storage",
    "Stored",
    "UploadLink",
    "open_storage",
]


def open_storage(settings: StorageSettings, namespace: str) -> AbstractAsyncContextManager[Storage]:
    """The backend of the settings with the objects of one installation, for use inside `async with`.

    Entering sends nothing to the storage. It raises ConfigurationError when a setting cannot be right, and
    StorageUnavailable when the machine gets no credentials.
    """
    if settings.local:
        return nullcontext(LocalStorage(settings.directory, namespace))
    return S3Storage(settings, namespace)
