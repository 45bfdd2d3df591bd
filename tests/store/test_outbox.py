"""The outbox on a real Redis: an event for each end, a lease for each delivery."""

import asyncio
from collections.abc import AsyncIterator
from typing import get_args

import pytest

from penstock.core.events import Delivery, Event, TaskEventType, Webhook
from penstock.core.task import Outcome, Progress, State
from penstock.errors import TaskNotFound, WebhookNotFound
from penstock.settings import Settings
from penstock.store import Due, Engine, LeasedEvent, Outbox, Store, connect
from penstock.store.encoding import hook_of
from penstock.store.keys import endpoint_digest
from penstock.store.outbox import Quota
from tests.support.stores import lease_of, submit

ENDS = ("succeeded", "failed", "canceled", "expired")
REFUSED = Delivery(at=1_800_000_000_000, ms=12, outcome="refused", code=404)
TENANT = "default"


@pytest.fixture
async def outbox(settings: Settings) -> AsyncIterator[Outbox]:
    async with connect(settings.redis) as client:
        yield Outbox(Engine(client, settings.redis.namespace, settings.queue))


async def due(outbox: Outbox, *, lease_s: float = 30, most: int = 10, most_each: int = 10, **under_way: int) -> Due:
    room = Quota(most, most_each)
    return await outbox.lease(lease_s=lease_s, prompt=room, others=room, under_way=under_way)


async def owed(outbox: Outbox, lease_s: float = 30) -> LeasedEvent:
    (event,) = (await due(outbox, lease_s=lease_s)).events
    return event


async def canceled(store: Store, **options: object) -> str:
    task_id = await submit(store, **{"tell": ENDS} | options)
    await store.tasks.cancel(task_id, TENANT)
    return task_id


async def event_of(store: Store, task_id: str) -> Event:
    (event,) = (await store.tasks.get(task_id, TENANT)).events
    return event


async def test_the_end_of_a_task_is_an_event_only_if_its_client_wants_to_hear(store: Store, outbox: Outbox) -> None:
    await canceled(store, tell=())
    await canceled(store, tell=("succeeded", "failed"))
    told = await canceled(store)

    leased = await owed(outbox)

    assert (leased.subject, leased.tenant, leased.event.type, leased.event.seq) == (told, TENANT, "canceled", 1)
    assert (leased.event.status, leased.event.epoch, leased.event.tries) == ("leased", 1, 0)


async def test_a_leased_event_is_nobody_elses_until_the_lease_ends(store: Store, outbox: Outbox) -> None:
    await canceled(store)
    first = await owed(outbox, lease_s=0.2)

    nothing = await due(outbox)
    await asyncio.sleep(0.25)
    second = await owed(outbox)

    assert nothing.events == ()
    assert 0 < (nothing.next_due_s or 0) <= 0.2
    assert (second.subject, second.event.seq, second.event.epoch) == (first.subject, 1, 2)
    assert not await outbox.settle(first, REFUSED, status="delivered", wait_s=None, rest_s=0, is_prompt=False), (
        "its lease is lost"
    )
    assert await outbox.settle(second, REFUSED, status="failed", wait_s=None, rest_s=0, is_prompt=False)
    assert not await outbox.settle(second, REFUSED, status="failed", wait_s=None, rest_s=0, is_prompt=False), (
        "it was written down"
    )
    event = await event_of(store, second.subject)
    assert (event.status, event.due, event.tries, event.log) == ("failed", None, 1, (REFUSED,))


async def test_an_endpoint_gets_no_more_at_once_than_it_may(store: Store, outbox: Outbox) -> None:
    for _ in range(5):
        await canceled(store)
    endpoint = endpoint_digest(TENANT, "https://hooks.example.com/whatever/the/path")

    first = await due(outbox, most_each=2)
    full = await due(outbox, most_each=2, **{endpoint: 2})
    one = await due(outbox, most_each=2, **{endpoint: 1})
    rest = await due(outbox, most=1)

    assert [len(found.events) for found in (first, full, one, rest)] == [2, 0, 1, 1]
    assert {leased.endpoint for leased in first.events} == {endpoint}


async def test_an_endpoint_of_one_tenant_does_not_rest_for_another(store: Store, outbox: Outbox) -> None:
    await canceled(store)
    await outbox.settle(await owed(outbox), REFUSED, status="waiting", wait_s=0.0, rest_s=60, is_prompt=False)
    await canceled(store)
    other = await submit(store, tell=ENDS, tenant="other")
    await store.tasks.cancel(other, "other")

    assert [leased.subject for leased in (await due(outbox)).events] == [other]


async def test_an_endpoint_that_rests_is_sent_nothing(store: Store, outbox: Outbox) -> None:
    await canceled(store)
    leased = await owed(outbox)
    await outbox.settle(leased, REFUSED, status="waiting", wait_s=0.0, rest_s=0.3, is_prompt=False)
    await canceled(store)

    resting = await due(outbox)
    await asyncio.sleep(0.35)
    rested = await due(outbox)

    assert (len(resting.events), len(rested.events)) == (0, 2)
    assert 0 < (resting.next_due_s or 0) <= 0.3


async def test_the_last_event_can_be_owed_again(store: Store, outbox: Outbox) -> None:
    task_id = await canceled(store)
    leased = await owed(outbox)
    await outbox.redeliver(task_id, TENANT)
    assert (await due(outbox)).events == (), "it is being delivered already"
    await outbox.settle(leased, REFUSED, status="failed", wait_s=None, rest_s=0, is_prompt=False)

    await outbox.redeliver(task_id, TENANT)

    again = await owed(outbox)
    assert (again.event.seq, again.event.tries, again.event.log) == (1, 0, (REFUSED,))


async def test_what_never_happened_cannot_be_owed_again(store: Store, outbox: Outbox) -> None:
    waiting = await submit(store, tell=ENDS)
    lease = await lease_of(store)
    assert await store.leases.progress(lease, "infer", Progress(done=1, total=2))

    for task_id in (waiting, await canceled(store, tell=())):
        with pytest.raises(WebhookNotFound):
            await outbox.redeliver(task_id, TENANT)
    for task_id, tenant in ((waiting, "another"), ("tsk_0", TENANT)):
        with pytest.raises(TaskNotFound):
            await outbox.redeliver(task_id, tenant)


async def test_an_end_waits_for_the_word_of_progress_that_is_being_said(store: Store, outbox: Outbox) -> None:
    await submit(store, tell=("progress", "succeeded"))
    lease = await lease_of(store)
    await store.leases.progress(lease, "infer", Progress(done=1, total=2))
    progress = await owed(outbox)
    await store.leases.complete(lease, Outcome())

    meanwhile = await due(outbox)
    await outbox.settle(progress, REFUSED, status="failed", wait_s=None, rest_s=0, is_prompt=False)
    end = await owed(outbox)

    assert (progress.event.type, meanwhile.events) == ("progress", ())
    assert (end.event.type, end.event.seq) == ("succeeded", 2)


async def test_progress_that_was_not_said_before_the_end_never_is(store: Store, outbox: Outbox) -> None:
    for lease_s in (None, 0.05):
        task_id = await submit(store, tell=("progress", "succeeded"))
        lease = await lease_of(store)
        await store.leases.progress(lease, "infer", Progress(done=1, total=2))
        if lease_s:
            await owed(outbox, lease_s)  # by one who dies of it
        await store.leases.complete(lease, Outcome())
        await asyncio.sleep(0.1)

        end = await owed(outbox)
        assert (end.subject, end.event.type) == (task_id, "succeeded")
        assert (await event_of(store, task_id)).type == "succeeded"


async def test_pruning_a_task_takes_what_it_owes_along(settings: Settings, store: Store, outbox: Outbox) -> None:
    await canceled(store, result_ttl_s=0)

    assert await store.overdue.prune() == 1

    assert await due(outbox) == Due((), None)
    async with connect(settings.redis) as client:
        left = [key.decode() async for key in client.scan_iter(match=f"*{settings.redis.namespace}*")]
    assert not [key for key in left if ":events:" in key or ":outbox" in key]


def test_what_a_record_says_of_its_webhook_fits_into_its_compact_encoding() -> None:
    events = get_args(TaskEventType)
    webhook = Webhook(url=f"https://{'a' * 60}.example.com:8443/told", events=events, base_url="")

    hook = hook_of(webhook, "tester")

    assert len(hook) <= 64
    assert hook.split()[1:] == [*(state for state in State if state.is_final), "PROGRESS"]


async def test_who_answers_promptly_has_room_when_all_others_have_none(store: Store, outbox: Outbox) -> None:
    await canceled(store)
    first = await owed(outbox)
    await outbox.settle(first, REFUSED, status="delivered", wait_s=None, rest_s=0, is_prompt=True)
    for _ in range(2):
        await canceled(store)
    none, one = Quota(0, 9), Quota(1, 9)

    (prompt,) = (await outbox.lease(lease_s=30, prompt=one, others=none, under_way={})).events
    await outbox.doubt(prompt.endpoint)
    doubted = await outbox.lease(lease_s=30, prompt=one, others=none, under_way={})
    (other,) = (await outbox.lease(lease_s=30, prompt=none, others=one, under_way={})).events

    assert (first.is_prompt, prompt.is_prompt, other.is_prompt) == (False, True, False)
    assert doubted.events == ()
    assert other.subject != prompt.subject


async def test_the_next_delivery_is_the_first_of_both_kinds(store: Store, outbox: Outbox) -> None:
    await canceled(store)
    await outbox.settle(await owed(outbox), REFUSED, status="waiting", wait_s=50.0, rest_s=0, is_prompt=True)
    await canceled(store, tell_where="https://elsewhere.example.com/")
    await outbox.settle(await owed(outbox), REFUSED, status="waiting", wait_s=20.0, rest_s=0, is_prompt=False)

    assert 19 < ((await due(outbox)).next_due_s or 0) <= 20


async def test_the_endpoints_that_are_owed_events_are_told_with_their_next_ones(store: Store, outbox: Outbox) -> None:
    assert await outbox.owed() == []
    first, second = await canceled(store), await canceled(store)
    leased, _ = (await due(outbox, lease_s=600)).events

    (endpoint,) = await outbox.owed()

    assert (endpoint.name, endpoint.total) == (leased.endpoint, 2)
    assert (endpoint.is_prompt, endpoint.rests_until) == (False, None)
    assert {one.subject for one in endpoint.events} == {first, second}
    assert [(one.tenant, one.event.type) for one in endpoint.events] == [(TENANT, "canceled")] * 2
    await outbox.settle(leased, REFUSED, status="waiting", wait_s=60, rest_s=300, is_prompt=False)
    (resting,) = await outbox.owed()
    assert resting.rests_until is not None
    assert next(one.event.log for one in resting.events if one.subject == leased.subject) == (REFUSED,)
