"""The bytes of uploads: received from a client, and known to be there before anybody uses them."""

import asyncio
import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec.structs import replace

from penstock.core.access import Caller
from penstock.core.upload import Upload, UploadState
from penstock.errors import ResultExpired, UploadMismatch, UploadNotFound, UploadNotReady
from penstock.intake.deps import Deps
from penstock.storage import CHUNK_BYTES, LocalStorage
from penstock.store import UploadStore
from penstock.telemetry import metrics

PUBLISH_S = 600.0
"""Longest time from the last byte to the object under its name: a rename."""


async def ready_upload(upload_id: str, caller: Caller, deps: Deps) -> Upload:
    """Return the upload of this caller once its bytes are there; `deps.storage.stream(upload.key)` gives them.

    Raises UploadNotFound, UploadNotReady, UploadMismatch.
    """
    upload = await deps.store.uploads.owned(upload_id, tenant=caller.tenant, caller=caller.id)
    return await check_arrival(upload, deps)


async def check_arrival(upload: Upload, deps: Deps) -> Upload:
    """Return the upload as READY. Its bytes may have come without our knowing: nobody tells us what is sent to a
    bucket, and a server may have ended before it could write down what it had received.

    Raises UploadNotReady, UploadMismatch, UploadNotFound.
    """
    if upload.state is UploadState.READY:
        return upload
    try:
        size = await deps.storage.size(upload.key)
    except ResultExpired as error:
        raise UploadNotReady(
            "its bytes have not arrived; send them to the url that the upload was opened with"
        ) from error
    if size != upload.size:
        raise UploadMismatch(f"{size} bytes have arrived, {upload.size} were announced")
    await _record_arrival(upload, deps.store.uploads)
    return replace(upload, state=UploadState.READY)


async def beginning_of(upload: Upload, size: int, deps: Deps) -> bytes:
    """Return the first `size` bytes, or all of a shorter upload. Raises UploadNotFound when they were deleted."""
    try:
        pieces = await deps.storage.stream(upload.key, 0, min(upload.size, size))
        return b"".join([piece async for piece in pieces])
    except ResultExpired as error:
        raise UploadNotFound("the bytes of this upload are gone") from error


async def check_digest(upload: Upload, deps: Deps) -> None:
    """Read all bytes of an upload, and record that they have the sha256 that was announced.

    Raises UploadMismatch, UploadNotFound.
    """
    digest = hashlib.sha256()
    try:
        async with aclosing(await deps.storage.stream(upload.key)) as pieces:
            async for piece in pieces:
                await asyncio.to_thread(digest.update, piece)
    except ResultExpired as error:
        raise UploadNotFound("the bytes of this upload are gone") from error
    await deps.store.uploads.hold(upload.id, 0, sha256=digest.hexdigest())


async def receive(
    upload: Upload, body: AsyncGenerator[bytes, None], storage: LocalStorage, uploads: UploadStore
) -> None:
    """Store what comes: all of it, durably, or nothing. The same bytes may be sent again.

    Raises UploadMismatch, also when other bytes were sent before; UploadNotFound when the upload was deleted meanwhile;
    MalformedRequest when the bytes break off.
    """
    async with storage.draft(upload.key) as draft, aclosing(_large_pieces(body)) as pieces:
        async for piece in pieces:
            if draft.size + len(piece) > upload.size:
                raise UploadMismatch(f"more bytes come than the {upload.size} that were announced")
            await draft.write(piece)
        if draft.size != upload.size:
            raise UploadMismatch(f"{draft.size} bytes came, {upload.size} were announced")
        await draft.sync()
        await uploads.hold(upload.id, PUBLISH_S, sha256=draft.sha256)
        await draft.publish()
    await _record_arrival(upload, uploads)


async def _record_arrival(upload: Upload, uploads: UploadStore) -> None:
    if await uploads.arrive(upload.id):
        metrics.report("uploads", outcome="completed")


async def _large_pieces(body: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """Join small pieces: each is written by a thread, and the hop costs more than a few bytes are worth."""
    gathered = bytearray()
    async for part in body:
        gathered += part
        if len(gathered) >= CHUNK_BYTES:
            yield bytes(gathered)
            gathered.clear()
    yield bytes(gathered)
