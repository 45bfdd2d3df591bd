"""The digest under which equal tasks of one API key find each other's results, and whether these are still there."""

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from loguru import logger

from penstock import __version__
from penstock.core.submission import Submission
from penstock.errors import ResultExpired, StorageUnavailable
from penstock.intake.call import SubmitCall
from penstock.storage import Storage
from penstock.store import ResultFound

DIGEST_BYTES = 16
"""128 bits: nobody but the caller can make two inputs meet, and it would take 2^64 tries."""

LOOK_S = 2.0
"""A submit waits so long for the storage to say whether the file of a result is there."""

T = TypeVar("T")


def reuse_digest(call: SubmitCall, sha256: str) -> str:
    """Return 22 characters that depend on everything that a result depends on.

    That is the caller, the version of the model and its files, the parameters with their defaults, how an image is
    written, the sha256 of the input bytes, and the code that runs it all.
    """
    parts = (
        __version__,
        call.caller.tenant,
        call.caller.id,
        call.model.id,
        call.model.digest,
        call.params,
        None if call.model.produces == "data" else call.task.output,
        sha256,
    )
    whole = hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()
    return urlsafe_b64encode(whole[:DIGEST_BYTES]).rstrip(b"=").decode()


async def checking_file(submission: Submission, storage: Storage, submit: Callable[[Submission], Awaitable[T]]) -> T:
    """Return what `submit` answers. Where it would answer with a result, the file of that result is looked for first;
    without the file the task runs."""
    while True:
        try:
            return await submit(submission)
        except ResultFound as result:
            submission = msgspec.structs.replace(submission, file_seen=await look_for_file(result, storage))


async def look_for_file(result: ResultFound, storage: Storage) -> str:
    """Return `Submission.file_seen` for the file of this result.

    A storage that is away, or takes long, is trusted: it has the file as likely as not, and the submit need not wait.
    """
    try:
        async with asyncio.timeout(LOOK_S):
            await storage.size(result.key)
    except ResultExpired:
        logger.bind(key=result.key).warning("the file of a result is gone, the task runs again")
        return result.seen(there=False)
    except (TimeoutError, StorageUnavailable) as error:
        logger.bind(key=result.key, reason=str(error)).warning("could not look for the file of a result")
    return result.seen(there=True)
