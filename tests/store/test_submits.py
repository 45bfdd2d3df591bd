"""Submit: idempotency, rate and depth are decided in one step, whoever asks at the same time."""

import asyncio

import pytest

from penstock.core.task import State
from penstock.errors import IdempotencyMismatch, QueueFull, RateLimited
from tests.support.stores import claim, lease_of, open_store, submission, submit


async def test_fifty_equal_submits_at_once_make_one_task(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        answers = await asyncio.gather(
            *(store.tasks.submit(submission(client_request_id="order-1"), rate_limit=0) for _ in range(50))
        )

        assert len({answer.id for answer in answers}) == 1
        assert [answer.replayed for answer in answers].count(False) == 1
        assert len((await store.listing.page("default")).tasks) == 1


async def test_another_body_under_the_same_id_is_refused(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        await submit(store, client_request_id="order-1")

        with pytest.raises(IdempotencyMismatch, match="submitted with another body"):
            await submit(store, client_request_id="order-1", fingerprint="other")


async def test_ids_of_different_callers_do_not_meet(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        first = await submit(store, client_request_id="order-1", caller="alice")
        second = await submit(store, client_request_id="order-1", caller="bob", fingerprint="other")

        assert first != second


async def test_the_rate_limit_is_exact_under_concurrency_and_for_each_caller(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        ends = await asyncio.gather(
            *(store.tasks.submit(submission(caller=c), rate_limit=10) for c in ("alice", "bob") for _ in range(40)),
            return_exceptions=True,
        )

        refused = [end for end in ends if isinstance(end, RateLimited)]
        assert len(ends) - len(refused) == 20
        assert all(1 <= error.retry_after_s <= 60 for error in refused)


async def test_the_rate_is_told_with_every_answer(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        answers = [await store.tasks.submit(submission(), rate_limit=3) for _ in range(3)]

        assert [answer.rate_left for answer in answers] == [2, 1, 0]
        assert all(0 < answer.rate_reset_s <= 60 for answer in answers)


async def test_a_replay_does_not_count_against_the_rate(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        for _ in range(5):
            answer = await store.tasks.submit(submission(client_request_id="same"), rate_limit=2)

        assert answer.rate_left == 1


async def test_a_full_queue_refuses_and_running_tasks_do_not_count(redis_url: str) -> None:
    async with open_store(redis_url, max_depth=3) as store:
        for _ in range(3):
            await submit(store)
        with pytest.raises(QueueFull):
            await submit(store)

        await claim(store)

        await submit(store)


async def test_pages_are_newest_first_and_stable_while_tasks_arrive(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        ids = [await submit(store) for _ in range(7)]
        first = await store.listing.page("default", limit=3)
        await submit(store)
        second = await store.listing.page("default", limit=3, before=first.next_before)
        third = await store.listing.page("default", limit=3, before=second.next_before)

        seen = [task.id for page in (first, second, third) for task in page.tasks]
        assert seen == ids[::-1]
        assert third.next_before is None


async def test_a_submit_sent_twice_never_resets_a_task_that_runs(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        request = submission()
        await store.tasks.submit(request, rate_limit=0)
        lease = await lease_of(store)

        answer = await store.tasks.submit(request, rate_limit=0)

        assert (answer.id, answer.position) == (request.id, None)
        task = await store.tasks.get(request.id, "default")
        assert (task.state, task.epoch) == (State.RUNNING, lease.epoch)
        assert (await claim(store)).lease is None


@pytest.mark.parametrize(("total", "pages"), [(6, [3, 3]), (7, [3, 3, 1]), (3, [3]), (0, [0])])
async def test_the_last_page_says_that_it_is_the_last(redis_url: str, total: int, pages: list[int]) -> None:
    async with open_store(redis_url) as store:
        for _ in range(total):
            await submit(store)

        sizes, before = [], None
        while True:
            page = await store.listing.page("default", limit=3, before=before)
            sizes.append(len(page.tasks))
            before = page.next_before
            if before is None:
                break

        assert sizes == pages


async def test_a_filtered_list_finds_what_lies_deep(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        rare = await submit(store, model="rare")
        for _ in range(250):
            await submit(store)

        assert [task.id for task in (await store.listing.page("default", model="rare")).tasks] == [rare]
