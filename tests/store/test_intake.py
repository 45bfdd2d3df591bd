"""A submit without HTTP: the intake queues tasks for whoever calls it."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from penstock.core.access import Caller
from penstock.core.model import Member, Model
from penstock.core.request import Line
from penstock.core.task import State, new_task_id
from penstock.core.upload import upload_key
from penstock.errors import IdempotencyMismatch, InvalidRequest, ModelNotFound, UnsupportedImageFormat, UploadNotFound
from penstock.intake.call import SubmitCall, checked_call
from penstock.intake.deps import Deps
from penstock.intake.enqueue import submit
from penstock.intake.estimates import Estimates
from penstock.intake.examine import examine
from penstock.intake.parse import decode
from penstock.intake.quotas import QuotaTable
from penstock.intake.quote import quote
from penstock.intake.requests import TaskRequest
from penstock.net.guard import Policy
from penstock.settings import Settings
from penstock.storage import Storage
from penstock.store import Store, UploadStore
from tests.support.drive import MODEL, body, data_uri, image
from tests.support.memory_storage import MemoryStorage
from tests.support.published import catalogue
from tests.support.stores import open_upload

PROGRAM = """
import asyncio, sys
from penstock.intake import batch_feeder, batch_start
from penstock.intake.enqueue import submit
assert "litestar" not in sys.modules and not [name for name in sys.modules if name.startswith("penstock.api")]
"""


@pytest.fixture
async def deps(settings: Settings, store: Store, storage: Storage) -> Deps:
    policy = Policy.from_limits(settings.limits)
    return Deps(
        settings=settings,
        models=await catalogue(store),
        policy=policy,
        webhook_policy=policy,
        store=store,
        storage=storage,
        estimates=Estimates(store),
        quotas=QuotaTable(settings.quotas),
        checking=asyncio.Lock(),
    )


def call_of(deps: Deps, data: bytes | None = None, **members: Any) -> SubmitCall:
    if data is not None:
        members["input"] = {"image_url": data_uri(data)}
    task = decode(msgspec.json.encode(body(**members)), TaskRequest)
    return checked_call(task, deps.models, caller=Caller("tester"), base_url="http://here/", traceparent="")


async def test_equal_tasks_of_two_tenants_whose_keys_have_one_name_have_nothing_in_common(deps: Deps) -> None:
    call = call_of(deps, image())
    callers = (Caller("web", "north"), Caller("web", "south"))

    digests = {(await examine(msgspec.structs.replace(call, caller=one), deps)).reuse_digest for one in callers}

    assert None not in digests
    assert len(digests) == len(callers)


def test_the_intake_imports_nothing_of_http() -> None:
    subprocess.run([sys.executable, "-c", PROGRAM], check=True, timeout=120)


class Retiring(MemoryStorage):
    """Its client gives up an upload while it is looked at."""

    upload_id = ""
    uploads: UploadStore | None = None

    async def stream(self, key: str, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        if self.uploads is not None and self.upload_id in key:
            await self.uploads.retire(self.upload_id, tenant="default", caller="tester")
        return await super().stream(key, start, stop)


async def test_an_upload_that_is_deleted_while_it_is_looked_at_is_refused_by_its_member(
    deps: Deps, store: Store, uploads: UploadStore
) -> None:
    kept, gone = [await open_upload(uploads, caller="tester", size=len(image())) for _ in range(2)]
    storage = Retiring({upload_key("default", one): image() for one in (kept, gone)})
    storage.upload_id, storage.uploads = gone, uploads
    pair = Model(name="pair", version="1", digest="d", inputs={"image": Member(), "mask": Member()})
    sent = {"image": {"upload_id": kept}, "mask": {"upload_id": gone}}
    fewer = replace(deps, storage=storage, models=await catalogue(store, pair))

    with pytest.raises(UploadNotFound) as refused:
        await submit("tsk_1", call_of(fewer, model="pair", input=sent), fewer)

    assert refused.value.param == "input.mask"


async def test_a_call_becomes_a_task_of_its_caller(deps: Deps, store: Store) -> None:
    task_id = new_task_id()

    receipt = await submit(task_id, call_of(deps, image(), metadata={"album": "42"}), deps)

    task = await store.tasks.get(task_id, "default")
    assert (receipt.submitted.id, receipt.submitted.replayed) == (task_id, False)
    assert (task.state, task.request.model, task.request.metadata) == (State.PENDING, MODEL, {"album": "42"})


async def test_a_call_that_is_repeated_names_the_first_task(deps: Deps) -> None:
    call = call_of(deps, image(), client_request_id="order-1")
    first = await submit("tsk_1", call, deps)

    again = await submit("tsk_2", call, deps)

    assert (again.submitted.id, again.submitted.replayed) == (first.submitted.id, True)
    with pytest.raises(IdempotencyMismatch):
        await submit("tsk_3", call_of(deps, image(9, 9), client_request_id="order-1"), deps)


async def test_the_line_of_a_batch_is_a_call_like_any_other(deps: Deps, store: Store) -> None:
    line = Line(batch="bat_1", custom_id="photo 1", number=1)

    await submit("tsk_1", replace(call_of(deps, image()), line=line), deps)

    assert (await store.tasks.get("tsk_1", "default")).request.line == line


async def test_an_image_that_cannot_be_read_is_refused_with_its_place(deps: Deps) -> None:
    with pytest.raises(UnsupportedImageFormat) as refused:
        await submit("tsk_1", call_of(deps, b"%PDF-1.7"), deps)

    assert refused.value.param == "input.image_url"


async def test_a_model_that_is_not_served_is_refused_although_it_is_published(deps: Deps, store: Store) -> None:
    fewer = await catalogue(store, serve=("image-scoring-v1",))

    with pytest.raises(ModelNotFound, match="the models are image-scoring-v1"):
        call_of(replace(deps, models=fewer), image())


async def test_parameters_that_would_fill_redis_are_refused(deps: Deps) -> None:
    with pytest.raises(InvalidRequest) as refused:
        call_of(deps, image(), params={"x": "a" * 65_536})

    assert refused.value.param == "params"


async def test_a_jpeg_without_loss_is_refused(deps: Deps) -> None:
    with pytest.raises(InvalidRequest, match="never lossless"):
        call_of(deps, image(), output={"format": "jpg", "lossless": True})


async def test_a_quote_says_what_is_ahead_and_queues_nothing(deps: Deps, store: Store) -> None:
    await submit("tsk_1", call_of(deps, image(), reuse=False), deps)

    answer = await quote(call_of(deps, image(6, 4), reuse=False), deps)

    assert (answer.tasks_ahead, answer.input_size, answer.eta_s) == (1, (6, 4), None), "no worker serves the model"
    assert (await store.listing.count("default"))[State.PENDING] == 1
