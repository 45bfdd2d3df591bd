"""UploadStore: records of the bytes that clients upload. A record is there before the first byte, and until the last
can no longer come, so that the storage holds no object without a record."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Struct

from penstock.core.quotas import NO_QUOTAS, Quotas, text_of
from penstock.core.upload import FileFacts, Upload, UploadState, upload_key
from penstock.errors import UploadInUse
from penstock.store.engine import Engine
from penstock.store.records import UnreadableRecord, reading
from penstock.store.verdicts import UPLOAD_ARRIVE, UPLOAD_HOLD, UPLOAD_OPEN, UPLOAD_RETIRE, no_upload, verdict


class Opened(Struct, frozen=True):
    """The answer to the opening of an upload: until when (ms) its bytes may be sent, and what is left of the caller's
    limit."""

    url_until: int
    rate_left: int
    rate_reset_s: int


class FilePage(Struct, frozen=True):
    """Uploads that are listed as files, newest first; `next_before` (µs) continues the list, None at its end."""

    files: tuple[Upload, ...]
    next_before: int | None


class UploadStore:
    """Uploads. Every method raises StoreUnavailable when Redis cannot be reached or refuses writes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._keys = engine.keys

    async def open(
        self,
        upload_id: str,
        *,
        tenant: str,
        caller: str,
        size: int,
        content_type: str,
        sha256: str | None,
        token: str | None,
        url_ttl_s: float,
        late_s: float,
        unused_ttl_s: float,
        rate_limit: int,
        quotas: Quotas = NO_QUOTAS,
        name: str = "",
        file: FileFacts | None = None,
    ) -> Opened:
        """Write down an upload whose bytes may be sent for `url_ttl_s` from now, and have all arrived `late_s` after
        that. With the facts of a `file` it is listed as one. Raises RateLimited and QuotaExceeded."""
        answer = await self._engine.run(
            "upload_open",
            id=upload_id,
            tenant=tenant,
            caller=caller,
            size=size,
            content_type=content_type,
            sha256=sha256 or "",
            token=token or "",
            open_ms=int(url_ttl_s * 1000),
            late_ms=int(late_s * 1000),
            unused_ms=int(unused_ttl_s * 1000),
            rate_limit=rate_limit,
            quotas=text_of(quotas),
            name=name,
            file="" if file is None else msgspec.json.encode(file),
        )
        return Opened(*verdict(UPLOAD_OPEN, upload_id, answer))

    async def owned(self, upload_id: str, *, tenant: str, caller: str) -> Upload:
        """The record of a caller's upload. Raises UploadNotFound, also for one of another caller."""
        found = await self.find(upload_id)
        if found is None or (found.tenant, found.caller) != (tenant, caller):
            raise no_upload(upload_id)
        return found

    async def find(self, upload_id: str) -> Upload | None:
        """The record of an upload of any caller, or None."""
        return (await self._read_all([upload_id]))[0]

    async def _read_all(self, upload_ids: Sequence[str]) -> list[Upload | None]:
        commands = [
            command
            for upload_id in upload_ids
            for command in (
                ("HGETALL", self._keys.upload(upload_id)),
                ("ZSCORE", self._keys.uploads, upload_id),
            )
        ]
        *rows, (seconds, _) = await self._engine.pipelined([*commands, ("TIME",)])
        return [
            await self._read(upload_id, fields, due, now=seconds * 1000)
            for upload_id, fields, due in zip(upload_ids, rows[::2], rows[1::2], strict=True)
        ]

    async def _read(
        self, upload_id: str, fields: Mapping[bytes, bytes], due: float | None, *, now: int
    ) -> Upload | None:
        try:
            with reading(upload_id):
                return _upload_of(upload_id, fields, due, now=now)
        except UnreadableRecord:
            await self._engine.salvage.examine([upload_id])
            return None

    async def files(self, *, tenant: str, caller: str, before: int | None, limit: int) -> FilePage:
        """The uploads of this caller that are listed as files and have arrived. A page may have fewer than `limit`."""
        newest = "+inf" if before is None else f"({before}"
        (row,) = await self._engine.pipelined(
            [
                (
                    "ZREVRANGEBYSCORE",
                    self._keys.files(tenant, caller),
                    newest,
                    "-inf",
                    "WITHSCORES",
                    "LIMIT",
                    0,
                    limit,
                )
            ]
        )
        known = await self._read_all([upload_id.decode() for upload_id in row[::2]])
        shown = tuple(upload for upload in known if upload and upload.file and upload.state is UploadState.READY)
        return FilePage(shown, int(row[-1]) if len(row) == 2 * limit else None)

    async def hold(self, upload_id: str, seconds: float, *, sha256: str | None = None) -> None:
        """Keep an upload, and its record, for so many seconds at least. With the `sha256` of the bytes that are stored
        for it, or about to be, it counts as checked.

        Raises UploadNotFound, and UploadMismatch when bytes of another sha256 are awaited or stored.
        """
        answer = await self._engine.run("upload_hold", id=upload_id, hold_ms=int(seconds * 1000), sha256=sha256 or "")
        verdict(UPLOAD_HOLD, upload_id, answer)

    async def arrive(self, upload_id: str) -> bool:
        """Note that all bytes of an upload are stored. Returns False when they were before. Raises UploadNotFound when
        it was deleted meanwhile: its bytes are deleted too, in time."""
        return bool(verdict(UPLOAD_ARRIVE, upload_id, await self._engine.run("upload_arrive", id=upload_id)))

    async def retire(self, upload_id: str, *, tenant: str, caller: str) -> None:
        """Give up an upload; it is `due` at once. Raises UploadNotFound, and UploadInUse while a task uses it."""
        if not await self._retire(upload_id, tenant, caller, "refuse"):
            raise UploadInUse("tasks use this upload; it can be deleted when they are")

    async def retire_file(self, upload_id: str, *, tenant: str, caller: str) -> bool:
        """Give up an upload, and list it no more. Returns False when a task uses it: it goes after its last task.
        Raises UploadNotFound."""
        return await self._retire(upload_id, tenant, caller, "unlist")

    async def _retire(self, upload_id: str, tenant: str, caller: str, if_used: str) -> bool:
        answer = await self._engine.run("upload_retire", id=upload_id, tenant=tenant, caller=caller, if_used=if_used)
        return bool(verdict(UPLOAD_RETIRE, upload_id, answer))

    async def due(self, *, limit: int = 100) -> Mapping[str, str]:
        """Uploads that nobody can use any more, each with the storage key to delete before `forget`."""
        answer = await self._engine.run("upload_due", most=limit)
        rows = [(upload_id.decode(), tenant) for upload_id, tenant in zip(answer[::2], answer[1::2], strict=True)]
        if any(tenant is None for _, tenant in rows):  # its record is damaged
            await self._engine.salvage.examine(upload_id for upload_id, _ in rows)
        return {upload_id: upload_key(tenant.decode(), upload_id) for upload_id, tenant in rows if tenant}

    async def forget(self, upload_ids: Iterable[str]) -> int:
        """Delete the records of those uploads for which no byte can arrive any more. Returns how many."""
        return int(await self._engine.run("upload_forget", ids=[*upload_ids]))

    async def unused(self) -> int:
        """How many uploads no task uses."""
        counts: Sequence[int] = await self._engine.pipelined([("ZCARD", self._keys.uploads)])
        return counts[0]


def _upload_of(upload_id: str, fields: Mapping[bytes, bytes], due: float | None, *, now: int) -> Upload | None:
    f = {name.decode(): value.decode() for name, value in fields.items()}
    if not f or "deleted" in f:
        return None
    return Upload(
        id=upload_id,
        tenant=f["tenant"],
        caller=f["caller"],
        state=UploadState.READY if "arrived" in f else UploadState.PENDING,
        size=int(f["size"]),
        content_type=f["type"],
        sha256=f.get("sha256"),
        is_checked="checked" in f,
        token=f.get("token"),
        created=int(f["created"]),
        is_open=now < int(f["url_until"]),
        due=None if due is None else int(due),
        tasks=int(f.get("tasks", 0)),
        name=f.get("name"),
        file=msgspec.json.decode(f["file"], type=FileFacts) if "file" in f else None,
    )
