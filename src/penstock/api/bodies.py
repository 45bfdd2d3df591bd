"""The body of a request, within the limit on bodies."""

from litestar.exceptions import HTTPException

from penstock.api.services import ApiRequest
from penstock.errors import MalformedRequest, PayloadTooLarge


async def body_of(request: ApiRequest) -> bytes:
    """All of it. Raises PayloadTooLarge, MalformedRequest."""
    try:
        return await request.body()
    except HTTPException as error:
        if error.status_code == PayloadTooLarge.status:
            raise PayloadTooLarge("the request body is over limits.max_body_bytes") from error
        raise MalformedRequest("the request body broke off") from error
