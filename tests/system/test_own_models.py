"""Models of one's own over HTTP, in real processes: the short contract as it stands, with every kind of member."""

import base64
import io
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from penstock import Client
from tests.support.processes import System, penstock, up, wait_for

MISSION = """
from penstock.models.base import BaseModelRunner
from penstock.models.registry import model_runner

@model_runner("mission-x")
class X(BaseModelRunner):
    def load_model(self):
        self.k = 1.0
    def prepare(self, input_data):
        import io, numpy as np
        from PIL import Image
        data = input_data if isinstance(input_data, bytes) else input_data["image"]
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), np.float32)
    def infer(self, tensor):
        return tensor.mean()
    def postprocess(self, output):
        return {"mean": float(output)}
"""

OTHERS = '''
import io, wave
import numpy as np
from PIL import Image
from penstock.models.base import BaseModelRunner
from penstock.models.registry import model_runner

@model_runner("loudness")
class Loudness(BaseModelRunner):
    """Root mean square of a recording."""
    inputs = {"audio": "file"}
    def prepare(self, input_data):
        audio = input_data["audio"]
        with wave.open(io.BytesIO(audio)) as file:
            samples = np.frombuffer(file.readframes(file.getnframes()), np.int16)
        return {"samples": samples, "about": [audio.content_type, audio.name]}
    def infer(self, tensor):
        return float(np.sqrt((tensor["samples"] / 32768.0) ** 2).mean()), tensor["about"]
    def postprocess(self, output):
        return {"loudness": output[0], "about": output[1]}

@model_runner("words")
class Words(BaseModelRunner):
    inputs = {"text": "json", "options": "json"}
    def prepare(self, input_data):
        return input_data["text"].split()
    def infer(self, tensor):
        return [len(word) for word in tensor]
    def postprocess(self, output):
        return {"lengths": output}

@model_runner("cut")
class Cut(BaseModelRunner):
    """An image where a mask is white, transparent elsewhere."""
    inputs = {"photo": "image", "mask": "image"}
    def prepare(self, input_data):
        return [input_data[name].image().rgb for name in ("photo", "mask")]
    def infer(self, tensor):
        photo, mask = tensor
        return np.dstack([photo, np.where(mask[..., :1] > 127, 255, 0).astype(np.uint8)])
    def postprocess(self, output):
        return output

@model_runner("mirror")
class Mirror(BaseModelRunner):
    def prepare(self, input_data):
        return Image.open(io.BytesIO(input_data["image_url"]))
    def infer(self, tensor):
        return tensor.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    def postprocess(self, output):
        return output

@model_runner("faulty")
class Faulty(BaseModelRunner):
    def prepare(self, input_data):
        return 0
    def infer(self, tensor):
        raise LookupError("a secret of the operator")
    def postprocess(self, output):
        return {}
'''


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("models")
    (folder / "mission.py").write_text(MISSION)
    (folder / "others.py").write_text(OTHERS)
    with up(folder / "data", options=("--models", str(folder)), GPU_IDS="cpu") as running:
        yield running


@pytest.fixture
def client(system: System) -> Iterator[httpx.Client]:
    with system.client() as opened:
        yield opened


def picture(*size: int, colour: str = "teal", **members: Any) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size or (8, 6), colour).save(out, "PNG")
    return out.getvalue()


def uri(data: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def recording() -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1), file.setsampwidth(2), file.setframerate(8000)
        file.writeframes((np.full(800, 16384, np.int16)).tobytes())
    return out.getvalue()


def ended(client: httpx.Client, model: str, input_: dict[str, Any], *statuses: str) -> dict[str, Any]:
    answer = client.post("/v1/tasks", json={"model": model, "input": input_})
    assert answer.status_code == 202, answer.text
    return wait_for(client, answer.json()["task_id"], *statuses)


def test_the_contract_as_it_stands_is_served(client: httpx.Client) -> None:
    done = ended(client, "mission-x", {"image_url": uri(picture(colour="white"), "image/png")})
    by_name = ended(client, "mission-x", {"image": uri(picture(colour="black"), "image/png")})

    assert done["result"]["data"] == {"mean": 255.0}
    assert by_name["result"]["data"] == {"mean": 0.0}


def test_the_catalogue_says_what_each_takes(client: httpx.Client) -> None:
    models = {model["name"]: model for model in client.get("/v1/models").json()["data"]}

    assert {name: member["kind"] for name, member in models["words"]["inputs"].items()} == {
        "text": "json",
        "options": "json",
    }
    assert {name: member["kind"] for name, member in models["mission-x"]["inputs"].items()} == {"image": "image"}
    assert models["loudness"]["title"] == "Root mean square of a recording"


def test_a_recording_is_a_file_with_its_type_and_name(system: System, client: httpx.Client, tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(recording())
    by_url = ended(client, "loudness", {"audio": uri(recording(), "audio/wav")})
    with Client(system.url, system.api_key) as python:
        by_upload = python.wait(python.submit(model="loudness", inputs={"audio": python.upload(str(path))}).task_id)

    assert by_upload.result is not None
    assert by_upload.result.data is not None
    for data in (by_url["result"]["data"], by_upload.result.data):
        assert data["loudness"] == pytest.approx(0.5)
        assert data["about"][0] == "audio/wav"


def test_text_is_a_member_as_it_is(client: httpx.Client) -> None:
    done = ended(client, "words", {"text": "to be or not", "options": {"a": [1, None]}})

    assert done["result"]["data"] == {"lengths": [2, 2, 2, 3]}


def test_an_image_and_its_mask_make_an_image_as_asked(client: httpx.Client) -> None:
    input_ = {"photo": uri(picture(colour="red"), "image/png"), "mask": uri(picture(colour="white"), "image/png")}
    done = ended(client, "cut", input_)
    file = client.get(f"/v1/tasks/{done['task_id']}/result", follow_redirects=True)
    made = Image.open(io.BytesIO(file.content))

    assert done["result"]["content_type"] == file.headers["content-type"] == "image/png"
    assert (made.mode, made.size, made.getpixel((0, 0))) == ("RGBA", (8, 6), (255, 0, 0, 255))


def test_an_image_of_pillow_is_encoded_as_the_client_asks(client: httpx.Client) -> None:
    body = {"model": "mirror", "input": {"image_url": uri(picture(), "image/png")}, "output": {"format": "webp"}}
    done = wait_for(client, client.post("/v1/tasks", json=body).json()["task_id"])

    assert done["result"]["content_type"] == "image/webp"


def test_what_a_model_raises_fails_its_task_once_and_says_no_secret(client: httpx.Client) -> None:
    failed = ended(client, "faulty", {"image_url": uri(picture(), "image/png")}, "FAILED")

    assert failed["error"]["code"] == "model_error"
    assert "LookupError in infer" in failed["error"]["message"]
    assert "secret" not in str(failed)
    assert len(failed["attempts"]) == 1


BROKEN = """
from penstock.models.base import BaseModelRunner
from penstock.models.registry import model_runner

@model_runner("broken-v1")
class Broken(BaseModelRunner):
    def load_model({load}): {body}
    def prepare(self, input_data): return 0
    def infer({infer}): return 0
    def postprocess(self, output): return {{}}
"""

GOOD = {"load": "self", "body": "pass", "infer": "self, tensor"}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"infer": "self"},
            "models.modules: broken.py:9: Broken.infer (model broken-v1) takes (self); it should be infer(self, "
            "tensor) or infer(self, tiles, work)",
        ),
        (
            {"body": "return open('no-weights')"},
            "broken-v1 cannot be loaded: FileNotFoundError: [Errno 2] No such file",
        ),
    ],
)
def test_a_model_that_cannot_be_served_is_one_line_at_the_start(
    tmp_path: Path, change: dict[str, str], says: str
) -> None:
    (tmp_path / "broken.py").write_text(BROKEN.format(**GOOD | change))

    done = penstock(
        tmp_path, "up", "--models", "./broken.py", PENSTOCK_API_PORT="0", PENSTOCK_TELEMETRY_METRICS_PORT="0"
    )

    usual = ('"level":"INFO"', "not ready yet")  # the second on a busy machine
    lines = [line for line in done.stderr.splitlines() if not any(word in line for word in usual)]
    assert done.returncode == 78
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith(f"penstock: no worker can run: {says}")
