"""/v1/tasks/{id}/result: the bytes, or a link to them."""

import hashlib
from contextlib import suppress
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter
from litestar.response import Stream

from penstock.api.http.conditional import is_current
from penstock.api.http.problems import documented
from penstock.api.http.ranges import range_of
from penstock.api.schemas.render import filename
from penstock.api.services import ApiRequest, Services, ServicesDep
from penstock.core.task import Artifact, Result, Task
from penstock.errors import (
    RangeNotSatisfiable,
    ResultExpired,
    ResultNotReady,
    StorageUnavailable,
    StoreUnavailable,
    TaskNotFound,
)


@get(
    "/tasks/{task_id:str}/result",
    operation_id="getTaskResult",
    tags=["tasks"],
    summary="Download a result",
    description=(
        "The file, or a redirect to where it is stored; JSON for a model that gives data only. The signed link needs "
        "no key: clients that follow the redirect should send theirs as `Authorization: Bearer`, which they do not "
        "pass on to another host, as they do with `x-api-key`. Answers 304 to a client that has the result: the `ETag` "
        "is its sha256, wherever it is stored."
    ),
    responses={
        206: ResponseSpec(bytes, description="The bytes asked for with `Range`", generate_examples=False),
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
    """409 while there is none, or when there will be none; 410 when it is gone."""
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
    return await served(task, result.artifact, services, if_none_match, range_, if_range)


async def served(
    task: Task,
    file: Artifact,
    services: Services,
    if_none_match: str | None,
    range_: str | None,
    if_range: str | None,
) -> Response[Any]:
    """The file by way of this server, wherever it is stored, as these headers of the request ask for it.

    Raises RangeNotSatisfiable, ResultExpired, StorageUnavailable.
    """
    headers = _headers(task, file)
    if is_current(headers["ETag"], if_none_match):
        return Response(None, status_code=304, headers=headers)
    part = range_of(range_, if_range, etag=headers["ETag"], size=file.size)
    try:
        return await _file(file, part, headers, services)
    except ResultExpired:
        with suppress(StoreUnavailable):  # the next equal submit looks for the file itself
            await services.store.tasks.result_lost(task.id)
        raise


def _digest(data: dict[str, Any] | None) -> str:
    return hashlib.sha256(msgspec.json.encode(data, order="deterministic")).hexdigest()


def result_of(task: Task) -> Result:
    """What the task gave. Raises ResultNotReady when it has nothing, yet or for ever."""
    if task.outcome.result is not None:
        return task.outcome.result
    if task.state.is_final:
        raise ResultNotReady(f"the task has ended as {task.state} and has no result")
    raise ResultNotReady("the task has not ended yet", retry_after_s=1)


def _headers(task: Task, file: Artifact) -> dict[str, str]:
    return {
        "ETag": f'"{file.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{filename(task, file)}"',
        "Content-Security-Policy": "sandbox",  # whatever a browser takes it for, it is no page of ours
    }


async def _file(
    file: Artifact, part: tuple[int, int] | None, headers: dict[str, str], services: Services
) -> Response[Any]:
    """The whole, or a part of it."""
    if part is None:
        headers["Content-Length"] = str(file.size)
        return Stream(await services.storage.stream(file.s3_key), media_type=file.content_type, headers=headers)
    start, stop = part
    headers |= {"Content-Length": str(stop - start), "Content-Range": f"bytes {start}-{stop - 1}/{file.size}"}
    chunks = await services.storage.stream(file.s3_key, start, stop)
    return Stream(chunks, status_code=206, media_type=file.content_type, headers=headers)
