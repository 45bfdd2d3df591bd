"""With a client made by openapi-python-client: submit a photo, wait for it, save the result. URL KEY PHOTO OUT"""

import base64
import sys
from pathlib import Path

import httpx
from penstock_client import AuthenticatedClient
from penstock_client.api.tasks import get_task, get_task_result, submit_task
from penstock_client.models.input_request import InputRequest
from penstock_client.models.output_request import OutputRequest
from penstock_client.models.output_request_format import OutputRequestFormat
from penstock_client.models.state import State
from penstock_client.models.submitted_view import SubmittedView
from penstock_client.models.superres_params import SuperresParams
from penstock_client.models.superres_params_variant import SuperresParamsVariant
from penstock_client.models.superres_x4_request import SuperresX4Request
from penstock_client.models.task_view import TaskView
from penstock_client.types import File


def submit(client: AuthenticatedClient, photo: Path) -> str:
    data = base64.b64encode(photo.read_bytes()).decode()
    body = SuperresX4Request(
        model="superres-x4",
        input_=InputRequest(image_url=f"data:image/jpeg;base64,{data}"),
        params=SuperresParams(variant=SuperresParamsVariant.GENERAL),
        output=OutputRequest(format_=OutputRequestFormat.WEBP),
    )
    answer = submit_task.sync(client=client, body=body)
    if not isinstance(answer, SubmittedView):
        raise TypeError(answer)
    return answer.task_id


def ended(client: AuthenticatedClient, task_id: str) -> TaskView:
    while True:
        task = get_task.sync(task_id, client=client, wait=30)
        if not isinstance(task, TaskView):
            raise TypeError(task)
        if task.status not in (State.PENDING, State.RUNNING):
            return task


def main(url: str, key: str, photo: str, out: str) -> None:
    with AuthenticatedClient(base_url=url, token=key, timeout=httpx.Timeout(60)) as client:
        task = ended(client, submit(client, Path(photo)))
        result = get_task_result.sync(task.task_id, client=client)
        if not isinstance(result, File):
            raise TypeError(result)
        Path(out).write_bytes(result.payload.read())
        if task.result is not None:
            print(task.status, task.result.content_type, task.result.width, task.result.height)


if __name__ == "__main__":
    main(*sys.argv[1:])
