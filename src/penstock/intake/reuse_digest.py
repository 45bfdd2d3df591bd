"""The digest under which equal tasks of one API key find each other's results, and whether these are still there."""

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from loguru import logger

from penstock import __version__
from penstock.api.http.auth import Caller
from penstock.core.submission import Submission
from penstock.errors import ResultExpired, StorageUnavailable
from penstock.intake.requests import TaskRequest
from penstock.models.base import registry, results_digest
from penstock.storage import Storage
from penstock.store import ResultFound

DIGEST_BYTES = 16
"""128 bits: nobody but the caller can make two inputs meet, and it would take 2^64 tries."""


LOOK_S = 2.0
"""A submit waits so long for the storage to say whether the file of a result is there."""

T = TypeVar("T")


def reuse_digest(asked: TaskRequest, sha256: str, caller: Caller) -> str:
    """22 characters over everything that a result depends on: the caller, the model and its files, the parameters with
    their defaults, how an image is written, the sha256 of the input bytes, and the code that runs it all."""
    runner = registry()[asked.model]
    parts = (
        __version__,
        caller.tenant,
        caller.id,
        runner.name,
        results_digest(runner),
        msgspec.convert(asked.params, runner.params),
        None if runner.card.produces == "data" else asked.output,
        sha256,
    )
    whole = hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()
    return urlsafe_b64encode(whole[:DIGEST_BYTES]).rstrip(b"=").decode()


async def looking(submission: Submission, storage: Storage, submit: Callable[[Submission], Awaitable[T]]) -> T:
    """What `submit` answers; a result that is there is given only if its file is."""
    while True:
        try:
            return await submit(submission)
        except ResultFound as found:
            submission = msgspec.structs.replace(submission, file_seen=await seen(found, storage))


async def seen(found: ResultFound, storage: Storage) -> str:
    """Look whether the file of a result is there, as `Submission.file_seen`. A storage that is away, or takes long, is
    trusted: it has the file as likely as not, and the submit need not wait for it."""
    try:
        async with asyncio.timeout(LOOK_S):
            await storage.size(found.key)
    except ResultExpired:
        logger.bind(key=found.key).warning("the file of a result is gone, the task runs again")
        return found.seen(there=False)
    except (TimeoutError, StorageUnavailable) as error:
        logger.bind(key=found.key, reason=str(error)).warning("could not look for the file of a result")
    return found.seen(there=True)
