"""The result files of predictions, as Replicate's clients take them: without a key, without a redirect.

Both clients make a file object of an output that begins with `data:` or `https:`. They fetch an `https:` output
themselves: the Python client sends its API key along and follows no redirect, the npm client sends no key. So a small
file is in the answer, and a larger one has a URL of this server with a token of its own, also where a bucket stores it:
a bucket would refuse the foreign key, and should never see it.
"""

import base64
from typing import Annotated, Any

import msgspec
from litestar import Response, get
from litestar.datastructures import State as AppState
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, QueryParameter

from penstock.api.http.auth import BY_URL
from penstock.api.http.problems import documented
from penstock.api.replicate.predictions import OutputLinks, PredictionView, prediction_view
from penstock.api.routes.results import result_of, served
from penstock.api.services import Services, ServicesDep
from penstock.core.task import TENANT, Artifact, Task
from penstock.errors import RangeNotSatisfiable, ResultExpired, ResultNotReady, StorageUnavailable, TaskNotFound

INLINE_BYTES = 1_000_000
"""A result file of at most this size is in the prediction itself, as a data: URI."""


@get(
    "/predictions/{output_id:str}/output/{file_name:str}",
    operation_id="getPredictionOutput",
    tags=["replicate"],
    summary="Download the output of a prediction",
    description="The URL is the `output` of a prediction, and needs no API key. The file comes from this server, "
    "without a redirect.",
    opt=BY_URL,
    security=[{"outputToken": []}],
    responses={
        206: ResponseSpec(bytes, description="The bytes asked for with `Range`", generate_examples=False),
        304: ResponseSpec(None, description="Unchanged"),
    }
    | documented(TaskNotFound, ResultNotReady, ResultExpired, RangeNotSatisfiable, StorageUnavailable),
)
async def read_output(
    services: ServicesDep,
    state: AppState,
    output_id: FromPath[str],
    file_name: FromPath[str],  # noqa: ARG001  for those who name a download by the end of its URL
    token: Annotated[str, QueryParameter()] = "",
    if_none_match: Annotated[str | None, HeaderParameter(name="If-None-Match")] = None,
    range_: Annotated[str | None, HeaderParameter(name="Range", description="one range, of a file")] = None,
    if_range: Annotated[str | None, HeaderParameter(name="If-Range", description="the ETag of the first part")] = None,
) -> Response[Any]:
    """404 for a wrong token: whoever has none is not told what there is."""
    if not state.output_links.opens(output_id, token):
        raise TaskNotFound("this is not the URL of an output")
    task = await services.store.tasks.get(output_id, TENANT)
    file = result_of(task).artifact
    if file is None:
        raise ResultNotReady("the prediction has data and no file")
    return await served(task, file, services, if_none_match, range_, if_range)


async def whole_view(task: Task, base_url: str, links: OutputLinks, services: Services) -> PredictionView:
    """The prediction with its output in it, where that is a small file."""
    view = prediction_view(task, base_url, links)
    file = task.outcome.result.artifact if task.outcome.result else None
    if file is None or file.size > INLINE_BYTES:
        return view
    try:
        return msgspec.structs.replace(view, output=await _data_uri(file, services))
    except (ResultExpired, StorageUnavailable):  # the prediction can be read all the same; its URL says what is wrong
        return view


async def _data_uri(file: Artifact, services: Services) -> str:
    data = await services.storage.get(file.s3_key, limit=INLINE_BYTES)
    return f"data:{file.content_type};base64,{base64.b64encode(data).decode()}"
