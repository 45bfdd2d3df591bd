"""Result files as this server sends them, whole or in part, wherever they are stored."""

from contextlib import suppress
from typing import Any

from litestar import Response
from litestar.response import Stream

from penstock.api.http.headers import is_current, range_of
from penstock.api.schemas.render import filename
from penstock.api.services import Services
from penstock.core.task import Artifact, Result, Task
from penstock.errors import ResultExpired, ResultNotReady, StoreUnavailable


def result_of(task: Task) -> Result:
    """Return the result of a task. Raises ResultNotReady when it has none yet, or ended without one."""
    if task.outcome.result is not None:
        return task.outcome.result
    if task.state.is_final:
        raise ResultNotReady(f"the task ended as {task.state} and has no result")
    raise ResultNotReady("the task has not ended yet", retry_after_s=1)


async def send_or_redirect(
    task: Task, file: Artifact, services: Services, if_none_match: str | None, range_: str | None, if_range: str | None
) -> Response[Any]:
    """Return a redirect to a signed link, or 304; what `send_file` does where the storage has no links."""
    etag = f'"{file.sha256}"'
    if is_current(etag, if_none_match):
        return Response(None, status_code=304, headers={"ETag": etag})
    link = await services.storage.url(file.s3_key, file.content_type, filename(task, file))
    if link is not None:
        headers = {"Location": link, "ETag": etag}
        return Response(b"", status_code=302, media_type="text/plain", headers=headers)
    return await send_file(task, file, services, if_none_match, range_, if_range)


async def send_file(
    task: Task, file: Artifact, services: Services, if_none_match: str | None, range_: str | None, if_range: str | None
) -> Response[Any]:
    """Return the file, or the part of it that these headers of the request ask for, or 304.

    Raises RangeNotSatisfiable, ResultExpired, StorageUnavailable.
    """
    headers = _headers(task, file)
    if is_current(headers["ETag"], if_none_match):
        return Response(None, status_code=304, headers=headers)
    part = range_of(range_, if_range, etag=headers["ETag"], size=file.size)
    try:
        return await _stream(file, part, headers, services)
    except ResultExpired:
        with suppress(StoreUnavailable):  # the next equal submit then checks for the file itself
            await services.store.tasks.result_lost(task.id)
        raise


def _headers(task: Task, file: Artifact) -> dict[str, str]:
    return {
        "ETag": f'"{file.sha256}"',
        "Accept-Ranges": "bytes",
        "Content-Disposition": f'attachment; filename="{filename(task, file)}"',
    }


async def _stream(
    file: Artifact, part: tuple[int, int] | None, headers: dict[str, str], services: Services
) -> Response[Any]:
    if part is None:
        headers["Content-Length"] = str(file.size)
        return Stream(await services.storage.stream(file.s3_key), media_type=file.content_type, headers=headers)
    start, stop = part
    headers |= {"Content-Length": str(stop - start), "Content-Range": f"bytes {start}-{stop - 1}/{file.size}"}
    chunks = await services.storage.stream(file.s3_key, start, stop)
    return Stream(chunks, status_code=206, media_type=file.content_type, headers=headers)
