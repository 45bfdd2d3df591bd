"""Inputs that lie in buckets: read within the limits, from where the operator allows it, on a real S3 server."""

from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

from penstock.errors import InputDownloadFailed, InputNotFound, InputTooLarge, UrlBlocked
from penstock.settings import LimitSettings, Settings, StorageSettings
from penstock.storage import S3Inputs
from penstock.worker.fetch import Fetcher
from tests.support.drive import body, image
from tests.support.s3_server import NARROW_KEY, NARROW_SECRET, s3_client

PHOTOS = "other-photos"
LIMITS = LimitSettings(s3_inputs=(PHOTOS, "penstock/shared", "no-such-bucket"), max_input_bytes=100_000)


@pytest.fixture(scope="module")
def bucket(s3_server: StorageSettings) -> StorageSettings:
    """A bucket beside that of the results, with photos of allowed and of forbidden sizes."""
    client = s3_client(s3_server)
    client.create_bucket(Bucket=PHOTOS)
    client.put_object(Bucket=PHOTOS, Key="My cat.png", Body=image())
    client.put_object(Bucket=PHOTOS, Key="limit", Body=bytes(100_000))
    client.put_object(Bucket=PHOTOS, Key="over", Body=bytes(100_001))
    client.put_object(Bucket=s3_server.s3_bucket, Key="shared/cat.png", Body=image())
    client.put_object(Bucket=s3_server.s3_bucket, Key="results/default/tsk_1/1.png", Body=image())
    client.close()
    return s3_server


@pytest.fixture
async def fetcher(bucket: StorageSettings) -> AsyncIterator[Fetcher]:
    async with S3Inputs(bucket, "tests") as objects, Fetcher(LIMITS, objects=objects) as opened:
        yield opened


@pytest.mark.parametrize("url", [f"s3://{PHOTOS}/My cat.png", "s3://penstock/shared/cat.png"])
async def test_an_object_is_read(fetcher: Fetcher, url: str) -> None:
    assert await fetcher.fetch(url) == image()


async def test_an_object_of_exactly_the_limit_is_read_and_one_byte_more_is_not(fetcher: Fetcher) -> None:
    assert len(await fetcher.fetch(f"s3://{PHOTOS}/limit")) == 100_000
    with pytest.raises(InputTooLarge):
        await fetcher.fetch(f"s3://{PHOTOS}/over")


@pytest.mark.parametrize("url", [f"s3://{PHOTOS}/none", "s3://no-such-bucket/cat.png"])
async def test_an_object_that_is_not_there_is_not_asked_for_again(fetcher: Fetcher, url: str) -> None:
    with pytest.raises(InputNotFound):
        await fetcher.fetch(url)


async def test_a_place_that_is_not_listed_is_blocked_also_in_our_own_bucket(fetcher: Fetcher) -> None:
    for url in ("s3://penstock/results/default/tsk_1/1.png", "s3://penstock/shared/../results/default/tsk_1/1.png"):
        with pytest.raises(UrlBlocked):
            await fetcher.fetch(url)


async def test_an_object_that_is_denied_is_not_asked_for_again(bucket: StorageSettings) -> None:
    narrow = msgspec.structs.replace(bucket, s3_access_key=NARROW_KEY, s3_secret_key=NARROW_SECRET)

    async with S3Inputs(narrow, "tests") as objects, Fetcher(LIMITS, objects=objects) as fetcher:
        assert await fetcher.fetch("s3://penstock/shared/cat.png") == image()
        with pytest.raises(InputNotFound, match="AccessDenied"):
            await fetcher.fetch(f"s3://{PHOTOS}/limit")


async def test_keys_that_are_wrong_are_the_operators_fault_and_worth_a_retry(bucket: StorageSettings) -> None:
    wrong = msgspec.structs.replace(bucket, s3_secret_key="wrong")

    async with S3Inputs(wrong, "tests") as objects, Fetcher(LIMITS, objects=objects) as fetcher:
        with pytest.raises(InputDownloadFailed, match="SignatureDoesNotMatch"):
            await fetcher.fetch(f"s3://{PHOTOS}/limit")


async def test_a_server_that_is_away_is_worth_a_retry(bucket: StorageSettings) -> None:
    nowhere = msgspec.structs.replace(bucket, s3_endpoint="http://127.0.0.1:9")

    async with S3Inputs(nowhere, "tests") as objects, Fetcher(LIMITS, objects=objects) as fetcher:
        with pytest.raises(InputDownloadFailed):
            await fetcher.fetch(f"s3://{PHOTOS}/limit")


async def test_a_slow_server_is_left_in_time(bucket: StorageSettings) -> None:
    hurried = msgspec.structs.replace(LIMITS, fetch_timeout_s=0.0001)

    async with S3Inputs(bucket, "tests") as objects, Fetcher(hurried, objects=objects) as fetcher:
        with pytest.raises(InputDownloadFailed, match="no complete answer"):
            await fetcher.fetch(f"s3://{PHOTOS}/limit")


class TestSubmit:
    """What the API says before anything is read."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, limits=LIMITS)

    async def test_an_object_in_a_listed_place_is_taken(self, client: httpx.AsyncClient) -> None:
        answer = await client.post("/v1/tasks", json=body(image_url=f"s3://{PHOTOS}/My cat.png"))

        assert answer.status_code == 202

    async def test_any_other_is_refused(self, client: httpx.AsyncClient) -> None:
        for url in ("s3://penstock/results/default/tsk_1/1.png", "s3://else/cat.png"):
            answer = await client.post("/v1/tasks", json=body(image_url=url))

            problem = answer.json()
            assert (answer.status_code, problem["code"]) == (422, "input_url_blocked")
            assert problem["param"] == "input.image_url"


async def test_no_bucket_may_be_named_by_default(client: httpx.AsyncClient) -> None:
    answer = await client.post("/v1/tasks", json=body(image_url=f"s3://{PHOTOS}/My cat.png"))

    assert (answer.status_code, answer.json()["code"]) == (422, "input_url_blocked")
