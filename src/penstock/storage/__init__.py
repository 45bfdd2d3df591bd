"""Where results are kept: one protocol, a directory or an S3 bucket behind it.

Objects are immutable: a key, `results/<tenant>/<task>/<epoch>.png`, is built from our own ids and belongs to
one attempt, so nothing is ever overwritten with other bytes and a late worker cannot spoil a result. Inputs that
came with a task are `inputs/<tenant>/<task>`, of a line of a batch with `-` and a mark of who has stored it behind,
those that were uploaded before `uploads/<tenant>/<upload>`.
"""

from contextlib import AbstractAsyncContextManager, nullcontext

from penstock.settings import StorageSettings
from penstock.storage.contract import CHUNK_BYTES, Item, Storage, UploadLink
from penstock.storage.local import LocalStorage
from penstock.storage.s3 import S3Storage
from penstock.storage.s3_inputs import S3Inputs

__all__ = ["CHUNK_BYTES", "Item", "LocalStorage", "S3Inputs", "S3Storage", "Storage", "UploadLink", "open_storage"]


def open_storage(settings: StorageSettings) -> AbstractAsyncContextManager[Storage]:
    """The configured backend, usable inside the `async with`. Entering it does not touch the network.

    Raises ConfigurationError on entering, when a setting cannot be right.
    """
    return nullcontext(LocalStorage(settings.directory)) if settings.local else S3Storage(settings)
