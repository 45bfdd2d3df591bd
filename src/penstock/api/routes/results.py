"""/v1/tasks/{id}/result: the bytes, or a link to them; and /v1/tasks/{id}/log."""

import hashlib
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter

from penstock.api.http.auth import ApiRequest
from penstock.api.http.contents import BINARY, IMAGES, JSON, Content, describe
from penstock.api.http.headers import is_current
from penstock.api.http.problems import documented
from penstock.api.http.scopes import BY_TOKEN, OF_ANY_TENANT, READ
from penstock.api.result_files import result_of, send_or_redirect
from penstock.api.services import ServicesDep
from penstock.errors import (
    NotFound,
    RangeNotSatisfiable,
    ResultExpired,
    ResultNotReady,
    StorageUnavailable,
    TaskNotFound,
)

OF_A_FILE = {
    206: ResponseSpec(bytes, description="The bytes of the `Range`", generate_examples=False),
    302: ResponseSpec(None, description="`Location` is a signed link"),
    304: ResponseSpec(None, description="Unchanged"),
}
LOG_TYPE = "text/plain"
ANY_FILE: Content = {"*/*": BINARY}


@get(
    "/tasks/{task_id:str}/result",
    operation_id="getTaskResult",
    tags=["tasks"],
    summary="Download a result",
    description=(
        "The first file, or a redirect to where it is stored; JSON for a model that gives only data. The signed link "
        "needs no key. Clients that follow the redirect should send their key as `Authorization: Bearer`: they would "
        "pass an `x-api-key` on to the other host. Answers 304 to a client that has the result: the `ETag` is its "
        "sha256, "
        "wherever it is stored."
    ),
    opt=READ | BY_TOKEN | OF_ANY_TENANT | describe(answers={200: {**IMAGES, JSON: {"type": "object"}}, 206: IMAGES}),
    responses=OF_A_FILE
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
    if result.first is not None:
        return await send_or_redirect(task, result.first, services, if_none_match, range_, if_range)
    etag = f'"{_digest(result.data)}"'
    if is_current(etag, if_none_match):
        return Response(None, status_code=304, headers={"ETag": etag})
    return Response(result.data, media_type="application/json", headers={"ETag": etag})


@get(
    "/tasks/{task_id:str}/log",
    operation_id="getTaskLog",
    tags=["tasks"],
    summary="Read what the code of the model has said",
    description="What it has logged and printed, and the tracebacks of its exceptions, attempt by attempt, each when "
    "it has ended. At most 64 KiB: of more the beginning and the end. It is meant for those who run the model: no "
    "other answer, and no webhook, has it.",
    media_type=LOG_TYPE,
    opt=READ | OF_ANY_TENANT | describe(answers={200: {LOG_TYPE: {"type": "string"}}}),
    responses=documented(TaskNotFound, ResultExpired),
)
async def read_log(request: ApiRequest, services: ServicesDep, task_id: FromPath[str]) -> str:
    """Answers an empty text where nothing was said."""
    return await services.store.tasks.log(task_id, request.auth.tenant)


@get(
    "/tasks/{task_id:str}/result/{result_name:str}",
    operation_id="getTaskResultFile",
    tags=["tasks"],
    summary="Download a file of a result",
    description=(
        "The file of this name out of `result.files` of the task, or a redirect to where it is stored, as for the "
        "whole result."
    ),
    opt=READ | BY_TOKEN | OF_ANY_TENANT | describe(answers={200: ANY_FILE, 206: ANY_FILE}),
    responses=OF_A_FILE
    | documented(TaskNotFound, NotFound, ResultNotReady, ResultExpired, RangeNotSatisfiable, StorageUnavailable),
)
async def read_result_file(
    request: ApiRequest,
    services: ServicesDep,
    task_id: FromPath[str],
    result_name: FromPath[str],
    if_none_match: Annotated[str | None, HeaderParameter(name="If-None-Match")] = None,
    range_: Annotated[str | None, HeaderParameter(name="Range", description="one range, of a file")] = None,
    if_range: Annotated[str | None, HeaderParameter(name="If-Range", description="the ETag of the first part")] = None,
) -> Response[Any]:
    """Answers 404 for a name that no file of the result has."""
    task = await services.store.tasks.get(task_id, request.auth.tenant)
    file = next((file for file in result_of(task).artifacts if file.name == result_name), None)
    if file is None:
        raise NotFound("the result has no file of this name")
    return await send_or_redirect(task, file, services, if_none_match, range_, if_range)


def _digest(data: dict[str, Any] | None) -> str:
    # In a fixed order of members, so that equal results of two tasks have one ETag.
    return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()
