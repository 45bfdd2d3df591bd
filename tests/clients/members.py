"""With a client made of a server whose model takes sound and a text: submit both, and say what came. URL KEY"""

import base64
import sys

import httpx
from penstock_client import AuthenticatedClient
from penstock_client.api.tasks import get_task, submit_task
from penstock_client.models.speech_v1_input import SpeechV1Input
from penstock_client.models.speech_v1_input_options import SpeechV1InputOptions
from penstock_client.models.speech_v1_request import SpeechV1Request
from penstock_client.models.submitted_view import SubmittedView
from penstock_client.models.task_view import TaskView

WAV = b"RIFF\x24\0\0\0WAVEfmt " + bytes(30)


def main(url: str, key: str) -> None:
    audio = f"data:audio/wav;name=a.wav;base64,{base64.b64encode(WAV).decode()}"
    input_ = SpeechV1Input(audio=audio, text="hi", options=SpeechV1InputOptions(words=["a", None]))
    with AuthenticatedClient(base_url=url, token=key, timeout=httpx.Timeout(60)) as client:
        answer = submit_task.sync(client=client, body=SpeechV1Request(model="speech-v1", input_=input_))
        if not isinstance(answer, SubmittedView):
            raise TypeError(answer)
        task = get_task.sync(answer.task_id, client=client, wait=60)
        if not isinstance(task, TaskView) or task.result is None or task.result.data is None:
            raise TypeError(task)
        data = task.result.data.to_dict()
    print(task.status, data["members"]["audio"]["name"], data["members"]["text"]["value"], len(data["members"]))


if __name__ == "__main__":
    main(*sys.argv[1:])
