"""The members of an input as far as they are here: looked at, held to their limits, and nothing of them fetched."""

import asyncio
import hashlib
from functools import partial
from types import TracebackType

import msgspec
from msgspec import Struct

from penstock.core.media_types import BEGINNING_BYTES, media_type, mismatch
from penstock.core.model import Member, Model
from penstock.core.upload import Upload
from penstock.errors import InputTooLarge, InvalidRequest, PenstockError, UnsupportedImageFormat, UnsupportedMediaType
from penstock.intake.call import SubmitCall
from penstock.intake.deps import Deps
from penstock.intake.given import Given
from penstock.intake.inline import bytes_of, declared_in, is_inline, is_long, refuse_bare_base64
from penstock.intake.json_bounds import is_deeper, structure_of
from penstock.intake.params import check_json
from penstock.intake.uploads import beginning_of, ready_upload
from penstock.net.guard import check_input
from penstock.pixels.headers import ImageBounds, ImageHeader, probe, probe_beginning
from penstock.settings import LimitSettings
from penstock.storage import CHUNK_BYTES

HEADER_BYTES = CHUNK_BYTES
"""How much of an upload is read for the header of an image: all of most photos, and of the others more than their
metadata."""


MAX_DEPTH = 100
"""Levels of JSON: how many more can be read depends on how deep the reader is in calls of its own, and a worker is not
where the API is."""


class Found(Struct, frozen=True, kw_only=True):
    """A member of an input: the `url` to fetch, its bytes in `data` (of JSON too), or the `upload` that has them.

    `header` is that of an image, None while nobody has seen it. `declared` and `name` are what the client says of a
    file: its media type, and what it is called.
    """

    given: Given
    url: str | None = None
    data: bytes | None = None
    upload: Upload | None = None
    header: ImageHeader | None = None
    declared: str | None = None
    name: str | None = None

    @property
    def size(self) -> int:
        """The bytes of a file that is here or was uploaded, 0 of any other member."""
        if self.upload is not None:
            return self.upload.size
        return 0 if self.data is None or self.given.member.kind == "json" else len(self.data)

    @property
    def sha256(self) -> str | None:
        """The digest of its bytes, None where nobody knows it."""
        if self.data is not None:
            return hashlib.sha256(self.data).hexdigest()
        return None if self.upload is None else self.upload.sha256

    @property
    def stored_type(self) -> str:
        """The media type under which its bytes are stored."""
        if self.header is not None:
            return f"image/{self.header.format.lower()}"
        return "application/json" if self.given.member.kind == "json" else media_type(self.data or b"", self.declared)


async def find(given: Given, call: SubmitCall, deps: Deps) -> Found:
    """Look at one member. What takes long is done in a thread.

    Raises UrlBlocked, InvalidRequest, InputTooLarge, UnsupportedMediaType, UnsupportedImageFormat, ImageTooLarge,
    ImageAnimated, ImageDecodeFailed, UploadNotFound, UploadNotReady, UploadMismatch.
    """
    with Blaming(given.param):
        if given.upload_id is not None:
            return await _of_upload(given, call, deps)
        if given.url is None:
            of_json = partial(_of_json, given, call.model, deps.settings.limits)
            return await asyncio.to_thread(of_json) if isinstance(given.value, dict | list) else of_json()
        if not is_inline(given.url):
            refuse_bare_base64(given.url)
            return Found(given=given, url=str(check_input(given.url, deps.policy)))
        if not is_long(given.url):
            return of_data(given, call, deps.settings.limits)
        # The base64 of megabytes would hold up every other request.
        return await asyncio.to_thread(of_data, given, call, deps.settings.limits)


def of_data(given: Given, call: SubmitCall, limits: LimitSettings, header: ImageHeader | None = None) -> Found:
    """Decode a data: URI. A header that is known from a first look is only compared with the limits, which may have
    changed since. Raises as `find` does."""
    assert given.url is not None  # noqa: S101  it is a data: URI
    with Blaming(given.param):
        data = bytes_of(given.url, limits.max_input_bytes, given.member.kind)
        if given.member.kind == "file":
            declared, name = declared_in(given.url)
            check_type(given.member, data, declared)
            return Found(given=given, data=data, declared=declared, name=name)
        if header is None:
            header = probe(data, call.bounds(limits))
        else:
            ImageBounds.of(limits).check_size(header.width, header.height)
        if given.member.media_types:
            check_type(given.member, data, None)
        return Found(given=given, data=data, header=header)


async def _of_upload(given: Given, call: SubmitCall, deps: Deps) -> Found:
    """Only the beginning of an upload is read: the rest is for a worker."""
    member, limits = given.member, deps.settings.limits
    upload = await ready_upload(str(given.upload_id), call.caller, deps)
    if upload.size > limits.max_input_bytes:
        raise InputTooLarge(f"the {member.kind} has {upload.size} bytes, the limit is {limits.max_input_bytes}")
    if member.kind == "file":
        name = upload.name or (upload.file.name if upload.file else None)
        if member.media_types:
            check_type(member, await beginning_of(upload, BEGINNING_BYTES, deps), upload.content_type)
        return Found(given=given, upload=upload, declared=upload.content_type, name=name)
    # A header may be cut off at the end of the beginning: only a whole file without one is refused.
    look = probe if upload.size <= HEADER_BYTES else probe_beginning
    beginning = await beginning_of(upload, HEADER_BYTES, deps)
    header = await asyncio.to_thread(look, beginning, call.bounds(limits))
    if member.media_types:
        check_type(member, beginning, None)
    return Found(given=given, upload=upload, header=header)


def _of_json(given: Given, model: Model, limits: LimitSettings) -> Found:
    data = msgspec.json.encode(given.value)
    if len(data) > limits.max_json_bytes:
        raise InputTooLarge(f"the JSON has {len(data)} bytes, the limit is {limits.max_json_bytes}")
    if data.count(b"[") + data.count(b"{") > MAX_DEPTH and is_deeper(structure_of(data), MAX_DEPTH):
        raise InvalidRequest(f"it is nested more than {MAX_DEPTH} levels deep")
    check_json(given.value, model, given.name)
    return Found(given=given, data=data)


def check_type(member: Member, beginning: bytes, declared: str | None) -> None:
    """Raise UnsupportedMediaType, or UnsupportedImageFormat, for a file of a type that the member does not take."""
    if wrong := mismatch(member.media_types, beginning, declared):
        raise (UnsupportedImageFormat if member.kind == "image" else UnsupportedMediaType)(wrong)


class Blaming(Struct, frozen=True):
    """Lets the errors inside of a block name this member of the request, unless they name another."""

    param: str

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if isinstance(error, PenstockError):
            error.param = error.param or self.param
