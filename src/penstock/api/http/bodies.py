"""The body of a request, decompressed: whole and within the limit on bodies, or in chunks of any total size."""

import asyncio
import math
import zlib
from collections import Counter
from collections.abc import AsyncGenerator
from io import BytesIO
from typing import Any, TypeVar

from msgspec import Struct

from penstock.api.http.auth import ApiRequest
from penstock.errors import MalformedRequest, NotReady, PayloadTooLarge, RateLimited, UnsupportedMediaType
from penstock.intake.parse import ON_LOOP_BYTES, decode

T = TypeVar("T")

REST_BYTES = 256 * 1024
"""What a request may have of JSON beside one member that is as long as `limits.max_json_bytes` allows."""

RETRY_S = 5

PIECE_BYTES = 256 * 1024
"""Most bytes that are decompressed at a time, which takes less than a millisecond."""

FREE_MEMBERS, MEMBER_BYTES = 1_000, 1024
"""Streams that a compressed body may be put together of: so many, and one for each KiB that comes out. Each costs some
30 microseconds; programs that make many have 64 KiB in each."""

ENCODINGS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
"""Content encoding -> the `wbits` of zlib for it. A limit on a body counts the decompressed bytes: a reader that stops
after some chunk keeps the rest from being decompressed."""


async def json_of(request: ApiRequest, kind: type[T], *, most: int | None = None) -> T:
    """Return the body as this type, of at most so many bytes, or `limits.max_body_bytes`; it is declared as JSON.

    A long body is decoded in a thread. Raises UnsupportedMediaType, PayloadTooLarge, MalformedRequest, InvalidRequest.
    """
    declared = request.scope["state"]["headers"].get(b"content-type", b"").partition(b";")[0].strip().lower()
    if declared != b"application/json":
        raise UnsupportedMediaType("send the body as Content-Type: application/json")
    limits = request.limits
    body = await _whole(request, limits.max_body_bytes, most)
    max_json_bytes = limits.max_json_bytes + REST_BYTES
    if len(body) <= ON_LOOP_BYTES:
        return decode(body, kind, max_bytes=max_json_bytes)
    return await asyncio.to_thread(decode, body, kind, max_bytes=max_json_bytes)


async def body_of(request: ApiRequest) -> bytes:
    """Return the whole body, of at most `limits.max_body_bytes`.

    Raises PayloadTooLarge, MalformedRequest, UnsupportedMediaType, RateLimited, NotReady.
    """
    return await _whole(request, request.limits.max_body_bytes)


async def _whole(request: ApiRequest, max_body_bytes: int, most: int | None = None) -> bytes:
    if encoding_of(request):
        return await _collected(pieces_of(request), request, max_body_bytes, most)
    _check_announced(request)
    first = await _next_piece(request)
    if first.is_last and len(first.data) <= (max_body_bytes if most is None else most):
        return first.data  # as nearly all bodies are
    return await _collected(_sent(request, first), request, max_body_bytes, most)


async def _collected(
    pieces: AsyncGenerator[bytes, None], request: ApiRequest, max_body_bytes: int, most: int | None
) -> bytes:
    limit = max_body_bytes if most is None else most
    memory: BodyMemory = request.app.state.body_memory
    whole, held = BytesIO(), 0
    try:
        async for piece in pieces:
            if whole.tell() and piece:  # one piece may come without being counted
                held += len(piece)
                memory.take(request.auth.tenant, len(piece))
            if whole.tell() + len(piece) > limit:
                raise _too_large(most)
            whole.write(piece)
    finally:
        if held:
            memory.give_back(request.auth.tenant, held)
    return whole.getvalue()  # the same memory, not a copy of it


class BodyMemory:
    """The bytes of bodies that a process is receiving, without what fits into one piece: in all, and of each tenant.

    A tenant may take half of it, so that no client that sends slowly keeps the bodies of others out.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._total = 0
        self._of_tenant: Counter[str] = Counter()

    def take(self, tenant: str, size: int) -> None:
        """Count bytes that came. Raises RateLimited or NotReady when they are too many; they have to be given back."""
        self._total += size
        self._of_tenant[tenant] += size
        if self._of_tenant[tenant] > self._most // 2:
            raise RateLimited("too many long bodies are on their way at a time", retry_after_s=RETRY_S)
        if self._total > self._most:
            raise NotReady("the server is receiving too many long bodies", retry_after_s=RETRY_S)

    def give_back(self, tenant: str, size: int) -> None:
        """Count bytes that are received, or refused."""
        self._total -= size
        self._of_tenant[tenant] -= size
        if not self._of_tenant[tenant]:
            del self._of_tenant[tenant]


def pieces_of(request: ApiRequest) -> AsyncGenerator[bytes, None]:
    """Return a generator of the body in chunks, without a limit on its size.

    Raises MalformedRequest, UnsupportedMediaType, and PayloadTooLarge on a route whose bodies Litestar limits.
    """
    encoding = encoding_of(request)
    _check_announced(request)
    return _inflated(_sent(request), ENCODINGS[encoding]) if encoding else _sent(request)


def encoding_of(request: ApiRequest) -> str | None:
    """Return the compression of the body, or None. Raises UnsupportedMediaType for an unknown one."""
    if b"content-encoding" not in request.scope["state"]["headers"]:
        return None
    encoding = ", ".join(request.headers.getall("content-encoding")).strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in ENCODINGS:
        raise UnsupportedMediaType(
            "send the body as it is, or with Content-Encoding: gzip or deflate",
            headers={"Accept-Encoding": "gzip, deflate"},
        )
    return encoding


class _Piece(Struct, frozen=True):
    data: bytes
    is_last: bool


async def _next_piece(request: ApiRequest) -> _Piece:
    message: Any = await request.receive()
    if message["type"] == "http.disconnect":
        raise MalformedRequest("the request body broke off")
    return _Piece(message.get("body", b""), not message.get("more_body", False))


async def _sent(request: ApiRequest, first: _Piece | None = None) -> AsyncGenerator[bytes, None]:
    """Yields the body as it comes, behind a piece that was read before. Litestar's stream makes 20 calls more."""
    limit, size = _limit_of(request), 0
    piece = first or await _next_piece(request)
    while True:
        size += len(piece.data)
        if size > limit:
            raise _too_large()
        yield piece.data
        if piece.is_last:
            return
        piece = await _next_piece(request)


def _check_announced(request: ApiRequest) -> None:
    announced = request.scope["state"]["headers"].get(b"content-length", b"")
    if announced.isdigit() and int(announced) > _limit_of(request):
        raise _too_large()


def _limit_of(request: ApiRequest) -> float:
    handler: Any = request.scope["route_handler"]
    limit: int | None = handler.resolve_request_max_body_size()
    return math.inf if limit is None else limit


async def _inflated(pieces: AsyncGenerator[bytes, None], wbits: int) -> AsyncGenerator[bytes, None]:
    """Yields at most `PIECE_BYTES` at once, however much a few bytes decompress to, and lets other requests run
    between two chunks."""
    inflating = zlib.decompressobj(wbits)
    members = size = 0
    try:
        async for piece in pieces:
            rest = piece
            while rest:
                if inflating.eof:  # a gzip stream may consist of several members
                    inflating = zlib.decompressobj(wbits)
                    members += 1
                    if members > FREE_MEMBERS + size // MEMBER_BYTES:
                        raise MalformedRequest("the body is put together of too many compressed streams")
                inflated = inflating.decompress(rest, PIECE_BYTES)
                size += len(inflated)
                yield inflated
                await asyncio.sleep(0)  # a small body may decompress to gigabytes of chunks
                rest = inflating.unused_data if inflating.eof else inflating.unconsumed_tail
        yield inflating.flush()
    except zlib.error as error:
        raise MalformedRequest("the body is not compressed as Content-Encoding says") from error
    if not inflating.eof:  # zlib raises nothing when the end is missing
        raise MalformedRequest("the compressed body breaks off")


def _too_large(most: int | None = None) -> PayloadTooLarge:
    if most is not None:
        return PayloadTooLarge(f"a JSON body here has {most} bytes at most; send the lines of a batch as JSONL")
    return PayloadTooLarge("the request body is over limits.max_body_bytes")
