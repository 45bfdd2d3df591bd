"""The digest under which equal tasks of one API key find each other's results, and whether these are still there."""

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import msgspec
from loguru import logger

from penstock import __version__
from penstock.core.submission import Submission
from penstock.errors import ResultExpired, StorageUnavailable
from penstock.intake.call import SubmitCall
from penstock.intake.found import Found
from penstock.storage import Storage
from penstock.store import ResultFound

DIGEST_BYTES = 16
"""128 bits: nobody but the caller can make two inputs meet, and it would take 2^64 tries."""

LOOK_S = 2.0
"""A submit waits so long for the storage to say whether the file of a result is there."""

T = TypeVar("T")


def reuse_digest(call: SubmitCall, found: Sequence[Found]) -> str | None:
    """Return 22 characters that depend on everything that a result depends on, None where the bytes of a member are not
    known.

    That is the caller, the version of the model and its files, the parameters with their defaults, how an image is
    written, the sha256 of each member with what is said of a file, and the code that runs it all.
    """
    members: list[tuple[str | None, ...]] = []
    for one in found:
        if one.url is not None or (sha256 := one.sha256) is None:
            return None
        members.append((one.given.name, sha256, one.declared, one.name))
    parts: tuple[Any, ...] = (
        __version__,
        call.caller.tenant,
        call.caller.id,
        call.model.id,
        call.model.digest,
        call.params,
        None if call.model.produces == "data" else call.task.output,
        members,
    )
    if call.scorer is not None:
        parts = (*parts, call.scorer.digest)
    whole = hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).digest()
    return urlsafe_b64encode(whole[:DIGEST_BYTES]).rstrip(b"=").decode()


async def checking_file(submission: Submission, storage: Storage, submit: Callable[[Submission], Awaitable[T]]) -> T:
    """Return what `submit` answers. Where it would answer with a result, the files of that result are looked for first;
    without all of them the task runs."""
    while True:
        try:
            return await submit(submission)
        except ResultFound as result:
            submission = msgspec.structs.replace(submission, file_seen=await look_for_files(result, storage))


async def look_for_files(result: ResultFound, storage: Storage) -> str:
    """Return `Submission.file_seen` for the files of this result, of which all must be there: a lifecycle rule of a
    bucket deletes one after the other.

    A storage that is away, or takes long, is trusted: it has them as likely as not, and the submit need not wait.
    """
    try:
        async with asyncio.timeout(LOOK_S):
            is_whole = await _is_whole(result.keys, storage)
    except (TimeoutError, StorageUnavailable) as error:
        logger.bind(keys=result.keys, reason=str(error)).warning("could not look for the files of a result")
        is_whole = True
    if not is_whole:
        logger.bind(keys=result.keys).warning("a file of a result is gone, the task runs again")
    return result.seen(there=is_whole)


async def _is_whole(keys: tuple[str, ...], storage: Storage) -> bool:
    if len(keys) > 1:  # they lie together, and one request lists them, however many they are
        folder = keys[0].rpartition("/")[0] + "/"
        return {*keys} <= {stored.key async for stored in storage.list(folder)}
    try:
        await storage.size(keys[0])
    except ResultExpired:
        return False
    return True
