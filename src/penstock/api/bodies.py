"""The body of a request, within the limit on bodies, or piece by piece."""

import asyncio
from collections.abc import AsyncGenerator

from litestar.exceptions import HTTPException

from penstock.api.services import ApiRequest
from penstock.errors import MalformedRequest, PayloadTooLarge

IDLE_S = 60.0
"""A client that sends nothing for so long is taken to be gone."""


async def body_of(request: ApiRequest) -> bytes:
    """All of it. Raises PayloadTooLarge, MalformedRequest."""
    try:
        return await request.body()
    except HTTPException as error:
        if error.status_code == PayloadTooLarge.status:
            raise PayloadTooLarge("the request body is over limits.max_body_bytes") from error
        raise MalformedRequest("the request body broke off") from error


async def pieces_of(request: ApiRequest) -> AsyncGenerator[bytes, None]:
    """It as it comes, however long. Raises MalformedRequest."""
    body = request.stream()
    while True:
        try:
            async with asyncio.timeout(IDLE_S):
                yield await anext(body)
        except StopAsyncIteration:
            return
        except (HTTPException, TimeoutError) as error:
            raise MalformedRequest("the request body broke off") from error
