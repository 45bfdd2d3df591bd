"""The result files of predictions, as Replicate's clients download them: without a key and without a redirect.

Both clients make a file object of an output that begins with `data:` or `https:`. They fetch an `https:` output
themselves: the Python client sends its API key along and follows no redirect; the npm client sends no key. So a small
file is in the prediction, and a larger one has a URL of this server with a token of its own, even if a bucket stores
the file: a bucket would refuse the foreign key, and should never see it.
"""

from typing import Annotated, Any

from litestar import Response, get
from litestar.datastructures import State as AppState
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, QueryParameter

from penstock.api.http.contents import IMAGES, describe
from penstock.api.http.problems import documented
from penstock.api.http.scopes import BY_URL
from penstock.api.result_files import result_of, send_file
from penstock.api.schemas.render import filename
from penstock.api.services import ServicesDep
from penstock.errors import RangeNotSatisfiable, ResultExpired, ResultNotReady, StorageUnavailable, TaskNotFound


@get(
    "/predictions/{output_id:str}/output/{file_name:str}",
    operation_id="getPredictionOutput",
    tags=["replicate"],
    summary="Download the output of a prediction",
    description="The URL is the `output` of a prediction, and needs no API key. This server sends the file itself, "
    "without a redirect.",
    opt=BY_URL | describe(answers={200: IMAGES, 206: IMAGES}),
    security=[{"outputToken": []}],
    responses={
        206: ResponseSpec(bytes, description="The bytes of the `Range`", generate_examples=False),
        304: ResponseSpec(None, description="Unchanged"),
    }
    | documented(TaskNotFound, ResultNotReady, ResultExpired, RangeNotSatisfiable, StorageUnavailable),
)
async def read_output(
    services: ServicesDep,
    state: AppState,
    output_id: FromPath[str],
    file_name: FromPath[str],  # clients name a download after the end of its URL
    token: Annotated[str, QueryParameter()] = "",
    if_none_match: Annotated[str | None, HeaderParameter(name="If-None-Match")] = None,
    range_: Annotated[str | None, HeaderParameter(name="Range", description="one range, of a file")] = None,
    if_range: Annotated[str | None, HeaderParameter(name="If-Range", description="the ETag of the first part")] = None,
) -> Response[Any]:
    """Answers 404 for a wrong token, so that nobody can find out which predictions exist."""
    tenant = state.output_links.tenant_of(output_id, token)
    if tenant is None:
        raise TaskNotFound("this is not the URL of an output")
    services = services.of(tenant)
    task = await services.store.tasks.get(output_id, tenant)
    files = result_of(task).artifacts
    if not files:
        raise ResultNotReady("the output of the prediction is data, not a file")
    file = next((file for file in files if filename(task, file) == file_name), None)
    if file is None:
        raise TaskNotFound("this is not the URL of an output")
    return await send_file(task, file, services, if_none_match, range_, if_range)
