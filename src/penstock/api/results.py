"""/v1/tasks/{id}/result: the bytes, or a link to them."""

from typing import Annotated, Any

from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter
from litestar.response import Stream

from penstock.api.conditional import is_current
from penstock.api.problems import documented
from penstock.api.services import ApiRequest, Open, Services
from penstock.api.views import filename
from penstock.errors import ResultExpired, ResultNotReady, StorageUnavailable, TaskNotFound
from penstock.task import Artifact, Result, Task


@get(
    "/tasks/{task_id:str}/result",
    operation_id="getTaskResult",
    tags=["tasks"],
    summary="Download a result",
    description="The file, or a redirect to where it is stored; JSON for a model that gives data only.",
    responses={
        302: ResponseSpec(None, description="`Location` is a signed link"),
        304: ResponseSpec(None, description="Unchanged"),
    }
    | documented(TaskNotFound, ResultNotReady, ResultExpired, StorageUnavailable),
)
async def read_result(
    request: ApiRequest,
    services: Open,
    task_id: FromPath[str],
    if_none_match: Annotated[str | None, HeaderParameter(name="If-None-Match")] = None,
) -> Response[Any]:
    """409 while there is none, or when there will be none; 410 when it is gone."""
    task = await services.store.get(task_id, request.auth.tenant)
    result = _result_of(task)
    if result.artifact is None:
        return Response(result.data, media_type="application/json")
    return await _file(task, result.artifact, services, if_none_match)


def _result_of(task: Task) -> Result:
    if task.outcome.result is not None:
        return task.outcome.result
    if task.state.is_final:
        raise ResultNotReady(f"the task has ended as {task.state} and has no result")
    raise ResultNotReady("the task has not ended yet", retry_after_s=1)


async def _file(task: Task, file: Artifact, services: Services, if_none_match: str | None) -> Response[Any]:
    name = filename(task, file)
    link = await services.storage.url(file.s3_key, file.content_type, name)
    if link is not None:
        return Response(b"", status_code=302, media_type="text/plain", headers={"Location": link})
    headers = {
        "ETag": f'"{file.sha256}"',
        "Content-Disposition": f'attachment; filename="{name}"',
        "Content-Security-Policy": "sandbox",  # whatever a browser takes it for, it is no page of ours
    }
    if is_current(headers["ETag"], if_none_match):
        return Response(None, status_code=304, headers=headers)
    chunks = await services.storage.stream(file.s3_key)
    headers["Content-Length"] = str(file.size)
    return Stream(chunks, media_type=file.content_type, headers=headers)
