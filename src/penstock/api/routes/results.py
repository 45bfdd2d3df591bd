"""/v1/tasks/{id}/result: the bytes, or a link to them."""

import hashlib
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter

from penstock.api.http.auth import ApiRequest
from penstock.api.http.contents import IMAGES, JSON, describe
from penstock.api.http.headers import is_current
from penstock.api.http.problems import documented
from penstock.api.result_files import result_of, send_file
from penstock.api.schemas.render import filename
from penstock.api.services import ServicesDep
from penstock.errors import (
    RangeNotSatisfiable,
    ResultExpired,
    ResultNotReady,
    StorageUnavailable,
    TaskNotFound,
)


@get(
    "/tasks/{task_id:str}/result",
    operation_id="getTaskResult",
    tags=["tasks"],
    summary="Download a result",
    description=(
        "The file, or a redirect to where it is stored; JSON for a model that gives only data. The signed link needs "
        "no key. Clients that follow the redirect should send their key as `Authorization: Bearer`: they would pass an "
        "`x-api-key` on to the other host. Answers 304 to a client that has the result: the `ETag` is its sha256, "
        "wherever it is stored."
    ),
    opt=describe(answers={200: {**IMAGES, JSON: {"type": "object"}}, 206: IMAGES}),
    responses={
        206: ResponseSpec(bytes, description="The bytes of the `Range`", generate_examples=False),
        302: ResponseSpec(None, description="`Location` is a signed link"),
        304: ResponseSpec(None, description="Unchanged"),
    }
    | documented(TaskNotFound, ResultNotReady, ResultExpired, RangeNotSatisfiable, StorageUnavailable),
)
async def read_result(
    request: ApiRequest,
    services: ServicesDep,
    task_id: FromPath[str],
    if_none_match: Annotated[str | None, HeaderParameter(name="If-None-Match")] = None,
    range_: Annotated[str | None, HeaderParameter(name="Range", description="one range, of a file")] = None,
    if_range: Annotated[str | None, HeaderParameter(name="If-Range", description="the ETag of the first part")] = None,
) -> Response[Any]:
    """Answers 409 while there is no result or if there will be none, and 410 after it was deleted."""
    task = await services.store.tasks.get(task_id, request.auth.tenant)
    result = result_of(task)
    etag = f'"{result.artifact.sha256 if result.artifact else _digest(result.data)}"'
    if is_current(etag, if_none_match):
        return Response(None, status_code=304, headers={"ETag": etag})
    if result.artifact is None:
        return Response(result.data, media_type="application/json", headers={"ETag": etag})
    link = await services.storage.url(
        result.artifact.s3_key, result.artifact.content_type, filename(task, result.artifact)
    )
    if link is not None:
        headers = {"Location": link, "ETag": etag}
        return Response(b"", status_code=302, media_type="text/plain", headers=headers)
    return await send_file(task, result.artifact, services, if_none_match, range_, if_range)


def _digest(data: dict[str, Any] | None) -> str:
    # In a fixed order of members, so that equal results of two tasks have one ETag.
    return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()
