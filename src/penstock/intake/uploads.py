"""The bytes of uploads: taken from a client, piece by piece, and found to be there before anybody uses them."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec.structs import replace

from penstock.api.http.auth import Caller
from penstock.api.services import Services
from penstock.core.upload import Upload, UploadState
from penstock.errors import ResultExpired, UploadMismatch, UploadNotFound, UploadNotReady
from penstock.storage import CHUNK_BYTES, LocalStorage
from penstock.store import UploadStore
from penstock.telemetry import metrics

PUBLISH_S = 600.0
"""Longest time from the last byte to the object under its name: a rename."""


async def ready_upload(upload_id: str, caller: Caller, services: Services) -> Upload:
    """The upload of this caller, its bytes being there: `services.storage.stream(upload.key)` gives them.

    Raises UploadNotFound, UploadNotReady, UploadMismatch.
    """
    upload = await services.uploads.owned(upload_id, tenant=caller.tenant, caller=caller.id)
    return await arrived(upload, services)


async def arrived(upload: Upload, services: Services) -> Upload:
    """The upload with its bytes, which may be there without our knowing: nobody tells us of what is sent to a bucket,
    and a server may have ended before it could write down what it had taken.

    Raises UploadNotReady, UploadMismatch, UploadNotFound.
    """
    if upload.state is UploadState.READY:
        return upload
    try:
        size = await services.storage.size(upload.key)
    except ResultExpired as error:
        raise UploadNotReady(
            "its bytes have not arrived; send them to the url that the upload was opened with"
        ) from error
    if size != upload.size:
        raise UploadMismatch(f"{size} bytes have arrived, {upload.size} were announced")
    if await services.uploads.arrive(upload.id):
        metrics.report("uploads", outcome="completed")
    return replace(upload, state=UploadState.READY)


async def beginning_of(upload: Upload, size: int, services: Services) -> bytes:
    """Its first bytes, so many at most. Raises UploadNotFound when they are gone."""
    try:
        pieces = await services.storage.stream(upload.key, 0, min(upload.size, size))
        return b"".join([piece async for piece in pieces])
    except ResultExpired as error:
        raise UploadNotFound("the bytes of this upload are gone") from error


async def check_digest(upload: Upload, services: Services) -> None:
    """Read all of it: it has the sha256 that was announced, and is known to from now on.

    Raises UploadMismatch, UploadNotFound.
    """
    digest = hashlib.sha256()
    try:
        async with aclosing(await services.storage.stream(upload.key)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(digest.update, piece)
    except ResultExpired as error:
        raise UploadNotFound("the bytes of this upload are gone") from error
    await services.uploads.hold(upload.id, 0, sha256=digest.hexdigest())


async def take(upload: Upload, body: AsyncGenerator[bytes, None], storage: LocalStorage, uploads: UploadStore) -> None:
    """Store what comes: all of it, durably, or nothing. Taking the same bytes again is fine.

    Raises UploadMismatch, also when they were sent before and were others; UploadNotFound when it was deleted
    meanwhile; MalformedRequest when they break off.
    """
    async with storage.draft(upload.key) as draft, aclosing(_pieces(body)) as pieces:
        async for piece in pieces:
            if draft.size + len(piece) > upload.size:
                raise UploadMismatch(f"more bytes come than the {upload.size} that were announced")
            await draft.write(piece)
        if draft.size != upload.size:
            raise UploadMismatch(f"{draft.size} bytes came, {upload.size} were announced")
        await draft.sync()
        await uploads.hold(upload.id, PUBLISH_S, sha256=draft.sha256)
        await draft.publish()
    if await uploads.arrive(upload.id):
        metrics.report("uploads", outcome="completed")


async def _pieces(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """What a client sends, in pieces that are worth the hop to a thread."""
    gathered = bytearray()
    async for part in body:
        gathered += part
        if len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)
