"""Shares of device time: what a task is charged when it is claimed, and what is set right when its attempt ends."""

import pytest

from penstock.task import Outcome
from tests.integration.stores import lease_of, open_store, submit


async def test_a_lease_says_how_long_the_device_will_need(redis_url: str) -> None:
    async with open_store(redis_url) as store:
        for size in (1000, 3000):
            await submit(store, cost=size)
        first = await lease_of(store)
        assert first.device_ms is None, "nothing has been measured"
        await store.complete(first, Outcome(execution={"device_ms": 200.0}))

        second = await lease_of(store)

        assert second.device_ms == pytest.approx(600)
