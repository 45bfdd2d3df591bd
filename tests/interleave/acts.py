"""The acts of callers, and the situations in which they meet. An act runs the product's own code, from the outermost
function that can be called without HTTP."""

import base64
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from penstock.api.routes import batches, removal, uploads
from penstock.core.access import TENANT
from penstock.core.batch import BatchPlan, StoredLine, part_key, task_id_of
from penstock.core.lease import Lease
from penstock.core.model import Member, Model
from penstock.core.task import Priority
from penstock.core.upload import upload_key
from penstock.errors import PenstockError
from penstock.intake.call import SubmitCall
from penstock.intake.enqueue import enqueue
from penstock.intake.examine import Examined
from penstock.intake.found import Found
from penstock.intake.given import given_of
from penstock.intake.requests import TaskRequest
from penstock.intake.uploads import ready_upload
from penstock.store.tasks import TaskStore
from penstock.upkeep.retention import prune
from penstock.upkeep.sweep import sweep_inline, sweep_uploads
from tests.interleave.world import ALICE, DESCRIBED, INLINE_BYTES, MODEL, MORNING_US, World

IMAGE = b"i" * (INLINE_BYTES + 1)
"""An image that is too large to stay in Redis."""

INLINE = (Found(given=given_of({"image_url": "data:,"}, DESCRIBED)[0], data=IMAGE),)
"""What is found of an input that came in the request."""

SMALL = (Found(given=INLINE[0].given, data=b"s" * INLINE_BYTES),)
"""The same of one that may stay in Redis."""

PAIRED = replace(DESCRIBED, inputs={"image": Member(), "mask": Member()})
PAIR = tuple(Found(given=one, data=IMAGE) for one in given_of({"image": "data:,", "mask": "data:,"}, PAIRED))
"""The same of two members."""

SHORT_S, LONG_S = 60, 604_800
"""How long results are kept: one shorter than any `LATER`, one longer."""
LATER_S = 3600.0
LEASE_IS_OVER_S = 30.0
LINK_S = 60

Act = Callable[[World, int], Awaitable[object]]
"""The number tells callers with the same act apart."""


class Situation(NamedTuple):
    """The state before the callers begin, and the acts that they may do."""

    prepare: Callable[[World], Awaitable[object]]
    acts: dict[str, Act]
    writes_get_lost: bool = False
    """Objects may then be left that no record knows of; `penstock doctor` finds them."""


def task(name: str) -> str:
    """Returns the id of a task."""
    return "tsk_" + _hex(name)


def upload(name: str) -> str:
    """Returns the id of an upload."""
    return "upl_" + _hex(name)


def batch(name: str) -> str:
    """Returns the id of a batch."""
    return "bat_" + _hex(name)


def _hex(name: str) -> str:
    """Makes ids in the usual form: the ms, then the random part."""
    return f"{MORNING_US // 1000:012x}{name.encode().hex():0>12}{0:08}"


def call_of(request: TaskRequest, model: Model = DESCRIBED) -> SubmitCall:
    """Returns the submit of this task by Alice."""
    given = given_of(request.input, model)
    return SubmitCall(caller=ALICE, task=request, model=model, params={}, given=given, base_url="", traceparent="")


# --- acts -----------------------------------------------------------------------------------------------------


async def submit(world: World, name: str, *, equal: bool = True, key: str | None = None, ttl_s: int = LONG_S) -> object:
    """Enqueues a task with an inline image, equal to all others, under this client_request_id."""
    request = TaskRequest(model=MODEL, input={"image_url": "data:,"}, client_request_id=key, result_ttl_s=ttl_s)
    examined = Examined(cost=1, fingerprint="f", found=INLINE, reuse_digest="same" if equal else None)
    return await enqueue(task(name), call_of(request), examined, world.services)


async def submit_small(world: World, name: str, ttl_s: int = LONG_S) -> object:
    """Enqueues a task that equals no other, with an input that may stay in Redis."""
    request = TaskRequest(model=MODEL, input={"image_url": "data:,"}, result_ttl_s=ttl_s)
    return await enqueue(task(name), call_of(request), Examined(cost=1, found=SMALL), world.services)


async def submit_upload(world: World, name: str, of: str = "u", ttl_s: int = LONG_S) -> object:
    """Enqueues a task whose input is an upload."""
    request = TaskRequest(model=MODEL, input={"upload_id": upload(of)}, result_ttl_s=ttl_s)
    found = await ready_upload(upload(of), ALICE, world.services)
    (photo,) = given_of(request.input, DESCRIBED)
    examined = Examined(cost=1, fingerprint="f", found=(Found(given=photo, upload=found),))
    return await enqueue(task(name), call_of(request), examined, world.services)


async def submit_several(world: World, name: str, ttl_s: int = LONG_S) -> object:
    """Enqueues a task with an upload, which is two of its members, and two members that came in the request."""
    shared = {"upload_id": upload("u")}
    sent = {"image": shared, "same": shared, "mask": "data:,", "other": "data:,"}
    model = replace(DESCRIBED, inputs={member: Member() for member in sent})
    request = TaskRequest(model=MODEL, input=sent, result_ttl_s=ttl_s)
    found = await ready_upload(upload("u"), ALICE, world.services)
    members = tuple(
        Found(given=one, upload=found) if one.upload_id else Found(given=one, data=IMAGE)
        for one in given_of(sent, model)
    )
    examined = Examined(cost=1, fingerprint="f", found=members, reuse_digest="several")
    return await enqueue(task(name), call_of(request, model), examined, world.services)


async def run(world: World, lease: Lease, end: str) -> None:
    """Acts as a worker, from the claim to the settled attempt."""
    await world.run(lease, end)


async def claim_both(world: World, number: int) -> None:
    """Claims two tasks in one call, and completes them."""
    worker = f"w{number}"
    for claim in await world.store.leases.claim_several(2, worker=worker, device="cpu", models=[MODEL]):
        if claim.lease:
            await run(world, claim.lease, "complete")


async def claim(world: World, worker: str) -> Lease | None:
    """Claims the next task."""
    return (await world.store.leases.claim(worker=worker, device="cpu", models=[MODEL])).lease


def work(end: str) -> Act:
    """Claims a task and brings it to this end."""

    async def act(world: World, number: int) -> None:
        if lease := await claim(world, f"w{number}"):
            await run(world, lease, end)

    return act


def finish(name: str) -> Act:
    """Ends the attempt that was running when the situation began."""

    async def act(world: World, _: int) -> None:
        await run(world, world.leases[name], "complete")

    return act


def cancel(name: str) -> Act:
    """Cancels a task."""
    return lambda world, _: world.store.tasks.cancel(task(name), TENANT)


def retry(name: str) -> Act:
    """Runs a task again."""
    return lambda world, _: world.store.tasks.resubmit(task(name), TENANT)


def delete(name: str) -> Act:
    """Deletes one task by the API's DELETE."""
    return lambda world, _: removal.delete_task.fn(world.request, world.services, task(name))


def delete_each(*names: str) -> Act:
    """Deletes some tasks by the API's DELETE, one after the other."""

    async def act(world: World, number: int) -> None:
        for name in names:
            await delete(name)(world, number)

    return act


def cancel_heard(name: str) -> Act:
    """Cancels a task, and its worker hears of it."""

    async def act(world: World, number: int) -> None:
        await cancel(name)(world, number)
        await world.tell_worker(world.leases[name])

    return act


def cancel_and_delete(name: str) -> Act:
    """Cancels a task, then deletes it."""

    async def act(world: World, number: int) -> None:
        await cancel(name)(world, number)
        await delete(name)(world, number)

    return act


async def fail_over(world: World, number: int) -> None:
    """Redis loses its last writes, and a worker goes on with what is left."""
    await world.lose_writes()
    await work("complete")(world, number)


def equal(prefix: str) -> Act:
    """Enqueues an equal task."""
    return lambda world, number: submit(world, f"{prefix}{number}")


def other(prefix: str) -> Act:
    """Enqueues a task that equals no other."""
    return lambda world, number: submit(world, f"{prefix}{number}", equal=False)


def again(key: str) -> Act:
    """Repeats the same submit under the same client_request_id, as a client does that got no answer."""
    return lambda world, number: submit(world, f"again{number}", key=key)


def say_lost(name: str) -> Act:
    """Reports that a reader did not find the file of this task's result."""

    async def act(world: World, _: int) -> None:
        await world.store.tasks.result_lost(task(name))

    return act


async def prune_later(world: World, _: int) -> None:
    """Runs upkeep when the retention of some tasks is over."""
    await world.time_passes(LATER_S)
    await keep_up(world)


async def keep_up(world: World) -> None:
    """Deletes the objects that are due."""
    await prune(world.store, world.storage)


async def move_inline(world: World, _: int) -> None:
    """Moves inputs of ended tasks from Redis to the storage."""
    await sweep_inline(world.store.inline, world.storage)


async def expire(world: World, _: int) -> None:
    """Ends the tasks whose start limit has passed."""
    await world.time_passes(LATER_S)
    await world.store.overdue.expire()


async def overrun(world: World, _: int) -> None:
    """Ends the tasks whose deadline has passed."""
    await world.time_passes(LATER_S)
    await world.store.overdue.overrun()


async def reclaim(world: World, _: int) -> None:
    """Reclaims the tasks of a worker whose supervisor saw it die."""
    await world.store.overdue.reclaim("w")


async def purge(world: World, _: int) -> None:
    """Cancels the tasks that wait."""
    await world.store.queues.purge(TENANT, MODEL, list(Priority), limit=100)


async def pause(world: World, _: int) -> None:
    """Pauses the queue and resumes it."""
    await world.store.queues.pause(MODEL, list(Priority), by="operator")
    await world.store.queues.resume(MODEL, list(Priority))


async def send(world: World, _: int) -> None:
    """Stores the bytes of an upload in the bucket as its client does, then reads the upload."""
    await world.put_by_link(upload_key(TENANT, upload("u")), IMAGE, MORNING_US // 1000 + 1000 * LINK_S)
    await ready_upload(upload("u"), ALICE, world.services)


async def delete_upload(world: World, _: int) -> None:
    """Deletes an upload."""
    await uploads.delete_upload.fn(world.request, world.services, upload("u"))


async def sweep(world: World, _: int) -> None:
    """Runs upkeep when the time of unused uploads is over."""
    await world.time_passes(LATER_S)
    await sweep_uploads(world.uploads, world.storage)


async def feed(world: World, _: int) -> None:
    """Runs one round of a feeder over all batches that are due."""
    leases, _next = await world.batches.lease(lease_s=5, most=4)
    for lease in leases:
        await world.feeder._round(lease)


async def feed_after_a_death(world: World, number: int) -> None:
    """Runs one round of a feeder that comes when the leases of the others are over."""
    await world.time_passes(LEASE_IS_OVER_S)
    await feed(world, number)


async def cancel_batch(world: World, _: int) -> None:
    """Cancels a batch."""
    await world.batches.cancel(batch("b"), TENANT)


async def cancel_batch_and_feed(world: World, number: int) -> None:
    """Cancels a batch, and does what its next feeder does then."""
    await cancel_batch(world, number)
    await feed_after_a_death(world, number)


async def delete_batch(world: World, _: int) -> None:
    """Deletes a batch."""
    await batches.delete_batch.fn(world.request, world.services, batch("b"))


def of_line(verb: str, place: int = 0) -> Act:
    """Cancels, retries or deletes the task of a line."""
    assert verb == "delete" or hasattr(TaskStore, verb), "found out now, and not only by an order that comes to it"
    task_id = task_id_of(batch("b"), place)

    async def act(world: World, _: int) -> None:
        if verb == "delete":
            await removal.delete_task.fn(world.request, world.services, task_id)
        else:
            await getattr(world.store.tasks, verb)(task_id, TENANT)

    return act


# --- situations -----------------------------------------------------------------------------------------------


async def _a_waits(world: World) -> None:
    await submit(world, "a", key="key")


async def _a_waits_for_long(world: World) -> None:
    """`a` waits, with limits of time that `LATER` is past."""
    request = TaskRequest(
        model=MODEL, input={"image_url": "data:,"}, start_within_s=60, finish_within_s=60, result_ttl_s=LONG_S
    )
    examined = Examined(cost=1, fingerprint="f", found=INLINE, reuse_digest="same")
    await enqueue(task("a"), call_of(request), examined, world.services)


async def _a_was_canceled(world: World) -> None:
    await submit(world, "a", key="key", ttl_s=SHORT_S)
    await world.store.tasks.cancel(task("a"), TENANT)


async def _a_result_is_shown_twice(world: World) -> None:
    """`a` has run, and its retention ends before that of `b`, which shows its result."""
    await submit(world, "a", ttl_s=SHORT_S)
    await work("complete")(world, 0)
    await submit(world, "b")


async def _a_was_lost_and_its_result_is_shown_twice(world: World) -> None:
    """A worker that was taken for dead still runs `a`, which another has ended meanwhile."""
    await submit(world, "a", ttl_s=SHORT_S)
    await _claimed(world, "a")
    await world.store.overdue.reclaim("w")
    await work("complete")(world, 0)
    await submit(world, "b")


async def _b_follows_a(world: World) -> None:
    await submit(world, "a")
    await submit(world, "b")


async def _a_runs(world: World) -> None:
    await submit(world, "a", ttl_s=SHORT_S)
    await _claimed(world, "a")


async def _b_follows_a_that_runs(world: World) -> None:
    await _b_follows_a(world)
    await _claimed(world, "a")


async def _b_waits_at_the_cap(world: World) -> None:
    """`a` runs, and a claim has found that its tenant may run no other."""
    await world.store.caps.set({TENANT: 1})
    await submit(world, "a", equal=False)
    await submit(world, "b", equal=False)
    await _claimed(world, "a")
    assert await claim(world, "w") is None


async def raise_cap(world: World, _: int) -> None:
    """Sets a higher cap of running tasks, and runs upkeep."""
    await world.store.caps.set({TENANT: 2})
    await world.store.caps.review()


async def _claimed(world: World, name: str) -> None:
    lease = await claim(world, "w")
    assert lease is not None
    world.leases[name] = lease


async def _an_upload_is_open(world: World) -> None:
    await world.uploads.open(
        upload("u"), tenant=TENANT, caller=ALICE.id, size=len(IMAGE), content_type="image/png", sha256="0" * 64,
        token=None, url_ttl_s=LINK_S, late_s=60, unused_ttl_s=600, rate_limit=0,
    )  # fmt: skip


async def _an_upload_is_ready(world: World) -> None:
    await _an_upload_is_open(world)
    await send(world, 0)


async def _inputs_fill_their_budget(world: World) -> None:
    """`a` was canceled, `b` waits, and there is no room for a third."""
    await submit_small(world, "a", ttl_s=SHORT_S)
    await submit_small(world, "b")
    await world.store.tasks.cancel(task("a"), TENANT)


async def _several_inputs_wait(world: World) -> None:
    await _an_upload_is_ready(world)
    await submit_several(world, "a", ttl_s=SHORT_S)


async def _an_upload_is_used(world: World) -> None:
    await _an_upload_is_ready(world)
    await submit_upload(world, "a", ttl_s=SHORT_S)
    await work("complete")(world, 0)


def _batch_of(images: Sequence[bytes], ttl_s: int = LONG_S) -> Callable[[World], Awaitable[None]]:
    async def prepare(world: World) -> None:
        await world.batches.open(batch("b"), TENANT, ALICE.id, rate_limit=0, most=9, client_request_id=None)
        await world.batches.grow(batch("b"), 1, len(lines_of(images)))
        await world.storage.put(part_key(TENANT, batch("b"), 0), lines_of(images), "application/jsonl")
        plan = BatchPlan(defaults={"model": MODEL, "result_ttl_s": ttl_s}, starts=(0,), base_url="", traceparent="")
        await world.batches.start(batch("b"), TENANT, ALICE.id, plan, total=len(images), ttl_s=SHORT_S, fingerprint="f")

    return prepare


def lines_of(images: Sequence[bytes]) -> bytes:
    """Returns a part of a batch with a line for each of these images."""
    return b"\n".join(msgspec.json.encode(_line(number, image)) for number, image in enumerate(images, 1))


def _line(number: int, image: bytes) -> StoredLine:
    uri = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    said = {"custom_id": f"line-{number}", "input": {"image_url": uri}}
    return StoredLine(number, msgspec.Raw(msgspec.json.encode(said)), ("PNG", 8, 8))


async def _a_batch_has_failed(world: World) -> None:
    await _batch_of([IMAGE], SHORT_S)(world)
    await feed(world, 0)
    await work("fail")(world, 0)


async def _a_batch_is_fed(world: World) -> None:
    await _batch_of([IMAGE, IMAGE + b"2", IMAGE + b"3"])(world)
    await feed(world, 0)


SITUATIONS: dict[str, Situation] = {
    "a-waits": Situation(
        _a_waits,
        {
            "complete": work("complete"),
            "fail": work("fail"),
            "try-later": work("retry"),
            "release": work("release"),
            "cancel": cancel("a"),
            "retry": retry("a"),
            "delete": delete("a"),
            "purge": purge,
            "pause": pause,
            "equal": equal("c"),
            "other": other("o"),
            "again": again("key"),
            "prune": prune_later,
        },
    ),
    "redis-fails-over": Situation(
        _a_waits,
        {"complete": work("complete"), "fail": work("fail"), "cancel": cancel("a"), "fail-over": fail_over},
        writes_get_lost=True,
    ),
    "a-is-late": Situation(
        _a_waits_for_long,
        {
            "expire": expire,
            "overrun": overrun,
            "complete": work("complete"),
            "cancel": cancel("a"),
            "equal": equal("c"),
        },
    ),
    "a-was-canceled": Situation(
        _a_was_canceled,
        {
            "retry": retry("a"),
            "delete": delete("a"),
            "prune": prune_later,
            "equal": equal("c"),
            "again": again("key"),
            "complete": work("complete"),
        },
    ),
    "b-shows-the-result-of-a": Situation(
        _a_result_is_shown_twice,
        {
            "delete-a": delete("a"),
            "delete-b": delete("b"),
            "prune": prune_later,
            "equal": equal("c"),
            "say-lost": say_lost("b"),
        },
    ),
    "a-was-lost-and-b-shows-its-result": Situation(
        _a_was_lost_and_its_result_is_shown_twice,
        {"finish": finish("a"), "delete-a": delete("a"), "delete-both": delete_each("a", "b"), "prune": prune_later},
    ),
    "b-follows-a": Situation(
        _b_follows_a,
        {
            "complete": work("complete"),
            "fail": work("fail"),
            "release": work("release"),
            "complete-both": claim_both,
            "cancel-a": cancel("a"),
            "cancel-b": cancel("b"),
            "delete-b": delete("b"),
            "retry-a": retry("a"),
            "purge": purge,
            "equal": equal("c"),
        },
    ),
    "a-runs": Situation(
        _a_runs,
        {
            "finish": finish("a"),
            "reclaim": reclaim,
            "cancel": cancel("a"),
            "retry": retry("a"),
            "delete": delete("a"),
            "cancel-heard": cancel_heard("a"),
            "cancel-and-delete": cancel_and_delete("a"),
            "complete": work("complete"),
            "prune": prune_later,
            "equal": equal("c"),
        },
    ),
    "b-follows-a-that-runs": Situation(
        _b_follows_a_that_runs,
        {
            "finish": finish("a"),
            "reclaim": reclaim,
            "cancel-a": cancel("a"),
            "cancel-b": cancel("b"),
            "complete": work("complete"),
            "delete-b": delete("b"),
        },
    ),
    "an-upload-is-open": Situation(
        _an_upload_is_open,
        {
            "send": send,
            "delete-upload": delete_upload,
            "sweep": sweep,
            "submit": lambda w, n: submit_upload(w, f"a{n}"),
        },
    ),
    "an-upload-is-ready": Situation(
        _an_upload_is_ready,
        {"submit": lambda w, n: submit_upload(w, f"a{n}"), "delete-upload": delete_upload, "sweep": sweep},
    ),
    "an-upload-is-used": Situation(
        _an_upload_is_used,
        {
            "submit": lambda w, n: submit_upload(w, f"c{n}"),
            "delete-upload": delete_upload,
            "sweep": sweep,
            "delete": delete("a"),
            "prune": prune_later,
        },
    ),
    "inputs-fill-their-budget": Situation(
        _inputs_fill_their_budget,
        {
            "move": move_inline,
            "submit": lambda w, n: submit_small(w, f"c{n}"),
            "retry": retry("a"),
            "delete": delete("a"),
            "complete": work("complete"),
            "fail": work("fail"),
            "prune": prune_later,
        },
    ),
    "several-inputs-wait": Situation(
        _several_inputs_wait,
        {
            "submit": lambda w, n: submit_several(w, f"c{n}"),
            "complete": work("complete"),
            "cancel-and-delete": cancel_and_delete("a"),
            "delete-upload": delete_upload,
            "sweep": sweep,
            "prune": prune_later,
        },
    ),
    "a-batch-waits": Situation(
        _batch_of([IMAGE, IMAGE]),
        {
            "feed": feed,
            "feed-late": feed_after_a_death,
            "cancel-batch": cancel_batch,
            "cancel-and-feed": cancel_batch_and_feed,
            "delete-batch": delete_batch,
        },
    ),
    "a-batch-is-fed": Situation(
        _a_batch_is_fed,
        {
            "feed": feed_after_a_death,
            "complete": work("complete"),
            "cancel-batch": cancel_batch,
            "cancel-line": of_line("cancel"),
            "retry-line": of_line("resubmit"),
            "delete-line": of_line("delete"),
            "purge": purge,
        },
    ),
    "b-waits-at-the-cap": Situation(
        _b_waits_at_the_cap,
        {
            "finish": finish("a"),
            "complete": work("complete"),
            "release": work("release"),
            "cancel": cancel("a"),
            "cancel-waiting": cancel("b"),
            "submit": other("c"),
            "reclaim": reclaim,
            "raise-cap": raise_cap,
        },
    ),
    "a-batch-has-failed": Situation(
        _a_batch_has_failed,
        {
            "retry-line": of_line("resubmit"),
            "delete-line": of_line("delete"),
            "delete-batch": delete_batch,
            "prune": prune_later,
            "complete": work("complete"),
            "cancel-batch": cancel_batch,
        },
    ),
}


# --- the end of everything ------------------------------------------------------------------------------------


async def delete_everything(world: World) -> None:
    """Ends and deletes all tasks and batches, then runs upkeep for two weeks."""
    for _ in range(3):
        await world.time_passes(LEASE_IS_OVER_S)
        snapshot = await world.look()
        for batch_id in snapshot.under("batch:"):
            with suppress(PenstockError):
                await world.batches.cancel(batch_id, TENANT)
        await feed(world, 0)
        for worker in {record["worker"] for record in snapshot.records.values() if "worker" in record}:
            await world.store.overdue.reclaim(worker)
        for task_id in snapshot.records:
            with suppress(PenstockError):
                await world.store.tasks.cancel(task_id, TENANT)
        if not (await world.look()).keys.get("feeding"):
            break
    for task_id in (await world.look()).records:
        await removal.delete_task.fn(world.request, world.services, task_id)
    for _ in range(2):
        await world.time_passes(LONG_S)
        await keep_up(world)
        await world.store.overdue.answer_waiting()
        await sweep_uploads(world.uploads, world.storage)
