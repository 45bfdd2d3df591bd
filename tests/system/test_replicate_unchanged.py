"""What code that was written for Replicate does with its Python client, apart from running a prediction."""

import base64
import io
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import replicate
from PIL import Image
from replicate.client import Client
from replicate.exceptions import ReplicateError
from replicate.helpers import FileOutput
from replicate.pagination import paginate

from penstock.settings import StorageSettings
from tests.support.drive import data_uri, image
from tests.support.processes import System, up

pytestmark = pytest.mark.at_length

KEYS = ("alice-secret-for-tests", "bob-secret-for-tests")
REF = "penstock/superres-x4"
SMALL = data_uri(image())


def noise() -> bytes:
    """An image whose fourfold has more than 1 MB as PNG."""
    out = io.BytesIO()
    Image.effect_noise((240, 180), 100).convert("RGB").save(out, "PNG")
    return out.getvalue()


def size_of(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as found:
        return found.size


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with up(tmp_path_factory.mktemp("up"), API_KEYS=f"alice:{KEYS[0]}:read+submit+operate,bob:{KEYS[1]}") as running:
        yield running


@contextmanager
def opened(system: System, key: str) -> Iterator[Client]:
    """Closed at the end, for which the client has no way of its own."""
    client = replicate.Client(api_token=key, base_url=f"{system.url}/replicate")
    yield client
    client._client.close()


@contextmanager
def paused(system: System) -> Iterator[None]:
    """Meanwhile nothing starts."""
    with httpx.Client(base_url=system.url, headers={"X-API-Key": KEYS[0]}) as ours:
        ours.post("/v1/queues/superres-x4/pause").raise_for_status()
        yield
        ours.post("/v1/queues/superres-x4/resume").raise_for_status()


@pytest.fixture
async def client(system: System) -> AsyncIterator[Client]:
    with opened(system, KEYS[0]) as client:
        yield client
        await client._async_client.aclose()


@pytest.fixture
def other(system: System) -> Iterator[Client]:
    with opened(system, KEYS[1]) as client:
        yield client


@pytest.fixture(scope="module")
def large(system: System) -> str:
    """The output of a prediction that is larger than an answer should be."""
    with opened(system, KEYS[0]) as client:
        return str(client.run(REF, input={"image": data_uri(noise()), "variant": "clean"}))


def test_a_large_output_is_a_url_that_needs_no_key(large: str) -> None:
    file = httpx.get(large)

    assert file.status_code == 200
    assert len(file.content) > 1_000_000
    assert size_of(file.content) == (960, 720)
    assert file.headers["content-type"] == "image/png"
    assert file.headers["content-disposition"].endswith(f'filename="{Path(urlsplit(large).path).name}"')
    assert Path(urlsplit(large).path).suffix == ".png"


async def test_the_client_reads_a_large_output(client: Client, large: str) -> None:
    output = FileOutput(large, client)

    assert size_of(output.read()) == (960, 720)
    assert await output.aread() == output.read() == b"".join(output)


def test_a_part_of_an_output_can_be_had_and_one_that_is_there_is_not_sent_again(large: str) -> None:
    whole = httpx.get(large)

    part = httpx.get(large, headers={"Range": "bytes=100-199"})
    again = httpx.get(large, headers={"If-None-Match": whole.headers["etag"]})

    assert (part.status_code, part.content) == (206, whole.content[100:200])
    assert (again.status_code, again.content) == (304, b"")


def test_the_url_of_an_output_opens_no_other_and_cannot_be_made_up(client: Client, large: str) -> None:
    made = client.predictions.create(version=REF, input={"image": SMALL}, wait=True)
    task_id = urlsplit(large).path.split("/")[-3]

    for url in (large.partition("?")[0], large[:-1], f"{large}x", large.replace(task_id, made.id)):
        assert httpx.get(url).status_code == 404, url


def test_a_page_of_predictions_has_the_urls_of_files_and_not_the_files(client: Client) -> None:
    made = client.predictions.create(version=REF, input={"image": SMALL}, wait=True)
    (listed,) = (found for found in client.predictions.list() if found.id == made.id)

    assert made.output.startswith("data:image/png;base64,")
    assert httpx.get(listed.output).content == base64.b64decode(made.output.partition(",")[2])


@pytest.mark.at_length
def test_an_output_that_a_bucket_stores_comes_without_a_redirect(tmp_path: Path, s3_server: StorageSettings) -> None:
    environ = {
        "PENSTOCK_STORAGE_LOCAL": "false",
        "PENSTOCK_STORAGE_S3_ENDPOINT": s3_server.s3_endpoint,
        "PENSTOCK_STORAGE_S3_BUCKET": s3_server.s3_bucket,
        "PENSTOCK_STORAGE_S3_ACCESS_KEY": s3_server.s3_access_key,
        "PENSTOCK_STORAGE_S3_SECRET_KEY": s3_server.s3_secret_key,
        "PENSTOCK_REDIS_NAMESPACE": "replicate-on-s3",
    }
    with up(tmp_path / "up", **environ) as system, opened(system, system.api_key) as client:
        file = client.files.create(io.BytesIO(noise()))
        output = client.run(REF, input={"image": file.urls["get"], "variant": "clean"})

        assert size_of(httpx.get(output).raise_for_status().content) == (960, 720)
        assert size_of(FileOutput(output, client).read()) == (960, 720), "with the API key, which a bucket refuses"


@pytest.mark.parametrize("version", ["f121d640bd286e1f", "1", "1.4.0", "v2", "latest", "0" * 64])
async def test_any_version_runs_the_model_that_makes_images(client: Client, version: str) -> None:
    ref = f"someone/superres-x4:{version}"

    assert size_of(client.run(ref, input={"image": SMALL}).read()) == (32, 24)
    assert size_of((await client.async_run(ref, input={"image": SMALL})).read()) == (32, 24)


async def test_a_model_of_replicate_by_its_version_runs_the_model_that_makes_images(client: Client) -> None:
    ref = "nightmareai/real-esrgan:f121d640bd286e1fdc67f9799164c1d5be36ff74576ee11c803ae5b665dd46aa"

    assert size_of(client.run(ref, input={"image": SMALL}).read()) == (32, 24)
    assert size_of((await client.async_run(ref, input={"image": SMALL})).read()) == (32, 24)


@pytest.mark.parametrize("name", ["superres-x4", "image-scoring-v1"])
def test_the_version_of_a_model_runs_that_model(client: Client, name: str) -> None:
    latest = client.models.get("penstock", name).latest_version
    assert latest is not None

    made = client.predictions.create(version=latest, input={"image": SMALL}, wait=True)

    assert (made.model, made.version, made.status) == (f"penstock/{name}", latest.id, "succeeded")
    assert client.predictions.create(model=made.model, input={"image": SMALL}).model == made.model


@pytest.mark.parametrize("version", ["superres-x5", "someone/superres-x5", "someone/superres-x5:1", "deadbee-f"])
def test_the_name_of_a_model_that_is_not_here_is_no_version(client: Client, version: str) -> None:
    with pytest.raises(ReplicateError) as refused:
        client.predictions.create(version=version, input={"image": SMALL})

    assert refused.value.status == 404
    assert "is served here" in str(refused.value)


def test_an_input_that_a_model_does_not_have_is_refused_with_those_it_has(client: Client) -> None:
    with pytest.raises(ReplicateError) as refused:
        client.predictions.create(version=REF, input={"image": SMALL, "tiles": 400})

    assert refused.value.status == 422
    written = "format quality lossless max_bytes chroma background dpi bits color metadata keep_location"
    known = ", ".join(
        [
            "image, post, compare, variant, alpha, denoise, scale, width, height, fit, tile, accept_truncated",
            "face_enhance",
            *(f"output_{word}" for word in written.split()),
        ]
    )
    assert f"input.tiles: superres-x4 has no such input; known are: {known}" in str(refused.value)


async def test_models_are_listed_and_read_with_what_they_take(client: Client) -> None:
    listed = client.models.list()
    read = [await client.models.async_get(model.id) for model in listed]
    scoring, superres = (model.latest_version.openapi_schema["components"]["schemas"] for model in read)

    assert [model.id for model in read] == ["penstock/image-scoring-v1", "penstock/superres-x4"]
    assert (await client.models.async_list()).results == listed.results
    assert superres["Input"]["properties"].keys() >= {"image", "variant", "output_format", "scale", "face_enhance"}
    assert superres["Input"]["properties"]["scale"]["default"] == 4
    assert superres["Input"]["properties"]["face_enhance"]["const"] is False
    assert superres["Output"] == {"title": "Output", "type": "string", "format": "uri"}
    assert scoring["Output"]["type"] == "object"
    assert "scale" not in scoring["Input"]["properties"]


def test_versions_are_listed_and_read(client: Client) -> None:
    model = client.models.get(REF)
    (version,) = model.versions.list()

    assert version == model.latest_version
    assert model.versions.get(version.id) == version


def test_a_model_object_can_be_run(client: Client) -> None:
    model = client.models.get("someone/superres-x4")

    assert size_of(client.run(model, input={"image": SMALL}).read()) == (32, 24)


@pytest.mark.parametrize("act", ["models.get", "deployments.get"])
def test_a_model_that_is_not_here_cannot_be_read(client: Client, act: str) -> None:
    namespace, _, method = act.partition(".")

    with pytest.raises(ReplicateError, match="superres-x5"):
        getattr(getattr(client, namespace), method)("penstock/superres-x5")


async def test_a_model_is_a_deployment_too(client: Client) -> None:
    names = [deployment.name for deployment in client.deployments.list()]
    deployment = client.deployments.get("someone/superres-x4")
    made = [
        client.deployments.predictions.create(("someone", "superres-x4"), input={"image": SMALL}, wait=True),
        deployment.predictions.create(input={"image": SMALL}, wait=True),
        await client.deployments.predictions.async_create("a/superres-x4", input={"image": SMALL}, wait=True),
    ]

    assert names == ["image-scoring-v1", "superres-x4"]
    assert deployment.current_release is not None
    assert deployment.current_release.model == REF
    assert deployment.current_release.configuration.min_instances >= 1
    assert [(each.status, each.model) for each in made] == [("succeeded", REF)] * 3


async def test_a_file_is_stored_named_listed_and_deleted(client: Client, other: Client, tmp_path: Path) -> None:
    path = tmp_path / "my photo.png"
    path.write_bytes(image(10, 20))

    made = client.files.create(path, metadata={"album": 42})
    again = await client.files.async_get(made.id)

    assert (again.name, again.content_type, again.size) == ("my photo.png", "image/png", len(image(10, 20)))
    assert (again.metadata, again.urls) == ({"album": 42}, made.urls)
    assert made.id in [file.id for file in client.files.list()]
    assert size_of(client.run(REF, input={"image": made.urls["get"]}).read()) == (40, 80)
    with pytest.raises(ReplicateError):
        other.files.get(made.id)
    assert other.files.list() == []
    with pytest.raises(ReplicateError, match="upload_not_found"):
        other.predictions.create(version=REF, input={"image": made.urls["get"]})

    assert client.files.delete(made.id)
    assert made.id not in [file.id for file in await client.files.async_list()]
    with pytest.raises(ReplicateError):
        client.files.get(made.id)


def test_a_file_that_a_prediction_still_needs_can_be_deleted(client: Client, system: System) -> None:
    file = client.files.create(io.BytesIO(image(11, 12)))
    with paused(system):
        made = client.predictions.create(version=REF, input={"image": file.urls["get"]})

        assert client.files.delete(file.id)
    made.wait()

    assert made.status == "succeeded", made.error


def test_a_file_that_was_never_used_is_gone_at_once(client: Client) -> None:
    file = client.files.create(io.BytesIO(image()))

    assert client.files.delete(file.id)

    with pytest.raises(ReplicateError, match="upload_not_found"):
        client.predictions.create(version=REF, input={"image": file.urls["get"]})


def test_files_beyond_a_page_follow_on_the_next(other: Client) -> None:
    made = [other.files.create(io.BytesIO(b"any bytes")).id for _ in range(101)]

    first = other._request("GET", "/v1/files").json()
    second = other._request("GET", first["next"]).json()

    assert [file["id"] for file in first["results"] + second["results"]] == made[::-1]
    assert (len(first["results"]), second["next"]) == (100, None)


@pytest.mark.parametrize(
    "given",
    [
        {"scale": 4, "face_enhance": False},
        {"scale": 4.0},
        {"scale": None, "face_enhance": None, "output_format": None, "variant": None},
    ],
)
def test_inputs_that_say_what_happens_anyway_are_taken(client: Client, given: dict[str, Any]) -> None:
    output = client.run(REF, input={"image": SMALL, **given})

    assert size_of(output.read()) == (32, 24)


@pytest.mark.parametrize(
    ("model", "given", "said"),
    [
        ("superres-x4", {"scale": 10}, "input.scale: Expected a number <= 8"),
        ("superres-x4", {"face_enhance": True}, "input.face_enhance: superres-x4 cannot do true: leave it out, or"),
        ("superres-x4", {"tiles": 400}, "input.tiles: "),
        ("superres-x4", {"variant": 3}, "input.variant: "),
        ("superres-x4", {"output_format": "gif"}, "input.output_format: "),
        ("superres-x4", {"output_quality": 500}, "input.output_quality: "),
        ("superres-x4", {"image": "data:;base64,AAAA"}, "input.image: "),
        ("superres-x4", {"image": None}, "input.image: "),
        ("image-scoring-v1", {"scale": 4}, "input.scale: "),
    ],
)
def test_what_a_model_cannot_do_is_refused_by_name(
    client: Client, model: str, given: dict[str, Any], said: str
) -> None:
    with pytest.raises(ReplicateError) as refused:
        client.run(f"someone/{model}", input={"image": SMALL} | given)

    assert refused.value.detail is not None
    assert refused.value.detail.startswith(said)
    assert refused.value.title
    assert refused.value.status in (415, 422)


def test_the_older_word_for_a_webhook_of_the_end_is_understood(client: Client, system: System) -> None:
    url = "https://hooks.example.com/told"
    made = client.predictions.create(version=REF, input={"image": SMALL}, webhook_completed=url)

    with httpx.Client(base_url=system.url, headers={"X-API-Key": KEYS[0]}) as ours:
        webhook = ours.get(f"/v1/tasks/{made.id}").json()["webhook"]
    assert (webhook["url"], webhook["events"]) == (url, ["succeeded", "failed", "canceled", "expired"])


async def test_a_run_that_does_not_wait_polls(client: Client) -> None:
    outputs = [
        client.run(REF, input={"image": SMALL}, wait=False),
        client.run(REF, input={"image": SMALL}, wait=1),
        await client.async_run(REF, input={"image": SMALL}, wait=False),
    ]

    assert [size_of(output.read()) for output in outputs] == [(32, 24)] * 3


def test_a_wait_that_is_too_short_gives_a_prediction_to_poll(client: Client, system: System) -> None:
    with paused(system):
        made = client.predictions.create(version=REF, input={"image": data_uri(image(13, 14))}, wait=1)
    started_as = made.status
    made.wait()

    assert (started_as, made.status) == ("starting", "succeeded")


async def test_predictions_are_listed_read_and_canceled_without_blocking(client: Client) -> None:
    made = await client.predictions.async_create(version=REF, input={"image": data_uri(image(1200, 900))})

    await made.async_cancel()

    assert (await client.predictions.async_get(made.id)).status == "canceled"
    assert made.id in [found.id for found in (await client.predictions.async_list()).results]
    assert made.id in [found.id for page in paginate(client.predictions.list) for found in page]
