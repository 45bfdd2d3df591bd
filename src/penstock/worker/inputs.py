"""The input of a task, brought to the worker: one image, or the members that its model declares."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
from msgspec import UNSET

from penstock.core.lease import Lease
from penstock.core.media_types import file_name, media_type, mismatch
from penstock.core.model import Member, sole_image_of
from penstock.core.request import Source
from penstock.errors import InputTooLarge, PenstockError, UnsupportedImageFormat, UnsupportedMediaType
from penstock.models.members import InputFile, InputMembers
from penstock.pixels.headers import ImageBounds, probe
from penstock.settings import LimitSettings
from penstock.storage import Storage
from penstock.worker.attempt_clock import AttemptClock
from penstock.worker.codecs import CodecThreads
from penstock.worker.fetch import IMAGES, Download, Fetcher
from penstock.worker.sources import Sources

T = TypeVar("T")

Members = Mapping[str, Member]
"""What a registered model declares."""

AT_ONCE = 4
"""Members of one task that are fetched at a time."""

SERVERS_SAY = "text/plain"
"""The type that servers give to whatever they do not know."""


class Inputs:
    """Collects the inputs of tasks. A worker process has one."""

    def __init__(self, fetcher: Fetcher, storage: Storage, codecs: CodecThreads, limits: LimitSettings) -> None:
        self._sources = Sources(fetcher, storage, codecs)
        self._codecs = codecs
        self._limits = limits

    async def collect(self, lease: Lease, members: Members, clock: AttemptClock) -> bytes | InputMembers:
        """Return the input of a task for a model with these members; the bytes of the one image where it declares none.

        Raises InputTooLarge, UnsupportedMediaType, UnsupportedImageFormat, ImageTooLarge, ImageAnimated,
        ImageDecodeFailed, and what `Sources.read` raises. The text names the member at fault, unless the model takes
        nothing but one image.
        """
        if not members:
            source = next(iter(lease.request.inputs.values()), Source())
            return (await self._sources.read(source, lease.priority, clock)).data
        return await _Collection(self._sources, self._codecs, self._limits, lease, members, clock).collect()


class _Collection:
    """The members of one task, while they are brought here, a few at a time."""

    def __init__(
        self,
        sources: Sources,
        codecs: CodecThreads,
        limits: LimitSettings,
        lease: Lease,
        members: Members,
        clock: AttemptClock,
    ) -> None:
        self._sources = sources
        self._codecs = codecs
        self._limits = limits
        takes_truncated = lease.request.params.get("accept_truncated") is True
        self._bounds = ImageBounds.of(limits, takes_truncated=takes_truncated)
        self._lease = lease
        self._members = members
        self._clock = clock
        self._gate = asyncio.Semaphore(AT_ONCE)
        self._left = limits.bytes_in_all
        """Bytes that the members which are not here yet may have together."""
        self._is_sole_image = len(members) == 1 and sole_image_of(members) is not None

    async def collect(self) -> InputMembers:
        sources = self._lease.request.inputs
        if len(sources) > 1:
            found = await self._together(sources)
        else:  # a task of the event loop for the usual single image would take longer than what it does
            found = {name: await self._member(name, source) for name, source in sources.items()}
        return InputMembers(found, sole_image_of(self._members))

    async def _together(self, sources: Mapping[str, Source]) -> dict[str, Any]:
        try:
            async with asyncio.TaskGroup() as group:
                fetched = {name: group.create_task(self._member(name, source)) for name, source in sources.items()}
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from errors
        return {name: one.result() for name, one in fetched.items()}

    async def _member(self, name: str, source: Source) -> Any:
        if source.value is not UNSET:
            return source.value
        member = self._members.get(name, Member(kind="file"))
        async with self._gate:
            with self._naming(name):
                got = await self._read(member, source)
                if member.kind == "json":
                    return await self._on_thread(msgspec.json.decode, got.data)
                if member.kind == "image" and not self._is_sole_image:
                    # The model would not say which of its images it cannot decode.
                    await self._on_thread(probe, got.data, bounds=self._bounds)
                return self._file(member, source, got)

    async def _read(self, member: Member, source: Source) -> Download:
        accept = member.media_types or (IMAGES if member.kind == "image" else ())
        limit = max(1, min(self._limits.max_input_bytes, self._left))
        got = await self._sources.read(source, self._lease.priority, self._clock, accept=accept, limit=limit)
        self._left -= len(got.data)
        if self._left < 0:
            raise InputTooLarge(f"the input has more than {self._limits.bytes_in_all} bytes in all")
        return got

    async def _on_thread(self, call: Callable[..., T], data: bytes, **options: Any) -> T:
        return await self._codecs.run(self._lease.priority, self._clock, partial(call, data, **options))

    def _file(self, member: Member, source: Source, got: Download) -> InputFile:
        declared = source.content_type or got.content_type
        _check_type(member, got.data, declared, is_download=source.url is not None)
        return InputFile(
            got.data,
            content_type=media_type(got.data, declared),
            name=source.name or file_name(unquote(urlsplit(source.url or "").path)),
            bounds=self._bounds,
        )

    @contextmanager
    def _naming(self, name: str) -> Iterator[None]:
        try:
            yield
        except PenstockError as error:
            if not self._is_sole_image:
                error.detail = f"{name}: {error.detail}"
            raise


def _check_type(member: Member, data: bytes, declared: str | None, *, is_download: bool) -> None:
    if is_download and media_type(b"", declared) == SERVERS_SAY:
        declared = None
    if wrong := mismatch(member.media_types, data, declared):
        raise (UnsupportedImageFormat if member.kind == "image" else UnsupportedMediaType)(wrong)
