"""The files of a task's input, for those who may read the task: to look at them, and to send them again."""

from typing import Any

from litestar import Response, get
from litestar.params import FromPath
from litestar.response import Stream

from penstock.api.console.reads.tasks import is_here
from penstock.api.http.auth import ApiRequest
from penstock.api.http.scopes import OF_ANY_TENANT, READ
from penstock.api.services import Services, ServicesDep
from penstock.core.media_types import BEGINNING_BYTES, media_type
from penstock.errors import NotFound

SHOWN = ("image/", "audio/", "video/")
"""What a browser shows or plays; it runs nothing of it, since the answer is in a sandbox. Others are downloads."""
HAS_SCRIPT = "image/svg+xml"


@get("/tasks/{task_id:str}/inputs/{name:str}", opt=READ | OF_ANY_TENANT)
async def send_input(
    request: ApiRequest, services: ServicesDep, task_id: FromPath[str], name: FromPath[str]
) -> Response[Any]:
    """Send a file of the input as the client sent it. Raises TaskNotFound, ResultExpired, StorageUnavailable, and
    NotFound where the input has no such file, or it is elsewhere."""
    task = await services.store.tasks.get(task_id, request.auth.tenant)
    source = task.request.inputs.get(name)
    if source is None or not is_here(source):
        raise NotFound("the input has no such file here")
    data = source.data
    if data is None and source.upload is None:
        data = await services.store.inline.read(task_id, source.key or "")
    beginning = data or await _beginning(source.key or "", services)
    kind = media_type(beginning[:BEGINNING_BYTES], source.content_type)
    is_shown = kind.startswith(SHOWN) and kind != HAS_SCRIPT
    headers = {
        "Content-Disposition": "inline" if is_shown else "attachment",
        "Cache-Control": "private, max-age=3600",
        "Vary": "Cookie",
    }
    shown_as = kind if is_shown else "application/octet-stream"
    if data is not None:
        return Response(data, media_type=shown_as, headers=headers)
    return Stream(await services.storage.stream(source.key or ""), media_type=shown_as, headers=headers)


async def _beginning(key: str, services: Services) -> bytes:
    size = await services.storage.size(key)
    chunks = await services.storage.stream(key, 0, min(size, BEGINNING_BYTES))
    return b"".join([chunk async for chunk in chunks])
