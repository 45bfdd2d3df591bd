"""What workers publish of their models, and what operators decide about it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import structs

from penstock.core.model import Model
from penstock.errors import StoreUnavailable
from penstock.intake.models import UNKNOWN_S, WatchedCatalogue
from penstock.store import Store
from penstock.telemetry import exposition
from penstock.worker.publisher import Publisher
from tests.support.published import catalogue
from tests.support.redis_server import free_port
from tests.support.stores import open_store, worker_info

FIRST, SECOND, THIRD = (Model(name="many", version=v, digest=v, versioned=True) for v in "123")
CODED = Model(name="coded", version="1", digest="d", notes={"scale": 4})


async def ids(store: Store) -> list[str]:
    return [one.model.id for one in (await store.models.catalogue()).versions]


async def test_what_is_published_is_read_whole_in_the_order_of_its_first_publication(store: Store) -> None:
    assert not (await store.models.catalogue()).is_published

    await store.models.publish([SECOND, FIRST], worker="w1")
    await store.models.publish([CODED, FIRST], worker="w2")

    found = await store.models.catalogue()
    assert found.is_published
    assert [(one.model, one.worker) for one in found.versions] == [(SECOND, "w1"), (FIRST, "w2"), (CODED, "w2")]


async def test_a_version_that_comes_back_is_the_last(store: Store) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")

    await store.models.retract([FIRST.id])
    await store.models.publish([FIRST], worker="w1")

    assert await ids(store) == [SECOND.id, FIRST.id]


async def test_how_fast_a_retracted_version_ran_is_forgotten(store: Store) -> None:
    """Versions come and go for years."""
    await store.models.publish([FIRST, SECOND], worker="w1")
    rows = {f"{what}:{model.id}": 5 for what in ("ms", "cost") for model in (FIRST, SECOND)}
    await store.engine.pipelined([("HSET", store.engine.keys.board, name, value) for name, value in rows.items()])

    await store.models.retract([FIRST.id])

    assert list(await store.queues.paces()) == [SECOND.id]


async def test_a_retracted_default_is_the_default_no_longer(store: Store) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    await store.models.set_default("many", "2")
    await store.models.set_default("coded", "1")

    await store.models.retract([FIRST.id])
    assert (await store.models.catalogue()).defaults == {"many": "2", "coded": "1"}
    await store.models.retract([SECOND.id])
    await store.models.retract(["coded"])

    found = await store.models.catalogue()
    assert (found.versions, found.defaults, found.is_published) == ((), {}, True)


async def test_a_default_that_is_set_while_the_former_one_is_retracted_stays(store: Store) -> None:
    await store.models.publish([FIRST, SECOND], worker="w1")
    for _ in range(20):
        await store.models.set_default("many", "2")
        await asyncio.gather(store.models.retract([SECOND.id]), store.models.set_default("many", "1"))

        assert (await store.models.catalogue()).defaults == {"many": "1"}


async def test_a_description_that_cannot_be_read_is_left_out(store: Store) -> None:
    await store.models.publish([FIRST, CODED], worker="w1")
    await store.engine.pipelined([("HSET", store.engine.keys.models, FIRST.id, "{")])

    assert await ids(store) == [CODED.id]


async def test_a_server_hears_of_a_change_at_once(store: Store) -> None:
    models = await catalogue(store, CODED)
    watching = asyncio.create_task(models.run())
    try:
        async with asyncio.timeout(60):
            await store.models.publish([FIRST, SECOND], worker="w1")
            while models.ids() != ("coded", "many@1", "many@2"):
                await asyncio.sleep(0.01)
            await store.models.set_default("many", "2")
            while models.find("many") is not models.find("many@2"):
                await asyncio.sleep(0.01)
    finally:
        watching.cancel()


async def test_a_model_that_came_just_now_is_found_by_the_first_who_asks(store: Store) -> None:
    models = await catalogue(store, CODED)
    await store.models.publish([FIRST], worker="w1")

    await asyncio.gather(*(models.look_for("many") for _ in range(5)))

    assert models.find("many").id == FIRST.id


async def test_a_read_that_fails_fails_for_all_who_share_it() -> None:
    async with open_store(f"redis://127.0.0.1:{free_port()}/0", namespace="away") as away:
        models = WatchedCatalogue(away.models)
        ends = await asyncio.gather(*(models.read() for _ in range(4)), return_exceptions=True)

    assert [type(end) for end in ends] == [StoreUnavailable] * 4


async def test_names_that_nobody_knows_make_few_reads(store: Store) -> None:
    models = await catalogue(store, CODED)
    started = time.monotonic()
    before = (await store.engine.client.info("commandstats"))["cmdstat_hgetall"]["calls"]

    for _ in range(5):
        await models.look_for("nothing")

    after = (await store.engine.client.info("commandstats"))["cmdstat_hgetall"]["calls"]
    assert after - before == 3 * 5
    assert time.monotonic() - started >= 4 * UNKNOWN_S


async def test_a_worker_publishes_again_what_redis_has_lost(store: Store) -> None:
    publisher = Publisher(store.models, store.workers, "w1", "cpu")
    await publisher.publish([FIRST, CODED])
    assert 'penstock_model_info{device="cpu",digest="d",model="coded",version="1"} 1.0' in exposition.scrape().decode()
    await store.engine.pipelined([("DEL", store.engine.keys.models, store.engine.keys.models_first)])

    async with published_by(publisher):
        while set(await ids(store)) != {FIRST.id, CODED.id}:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def published_by(publisher: Publisher) -> AsyncIterator[None]:
    """Lets a worker publish."""
    running = asyncio.create_task(publisher.run())
    try:
        async with asyncio.timeout(60):
            yield
    finally:
        running.cancel()


async def test_the_default_version_outlives_a_redis_that_has_lost_everything(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("penstock.worker.publisher.LOOK_S", 0.02)
    publisher, keys = Publisher(store.models, store.workers, "w1", "cpu"), store.engine.keys
    await publisher.publish([FIRST, SECOND])
    await store.models.set_default("many", "2")
    async with published_by(publisher):
        await asyncio.sleep(0.1)
        await store.engine.pipelined([("DEL", keys.models, keys.models_first, keys.models_default)])
        while (await store.models.catalogue()).defaults != {"many": "2"}:
            await asyncio.sleep(0.01)


async def test_what_a_worker_has_described_differently_counts_until_it_leaves(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after a new release that was taken back."""
    monkeypatch.setattr("penstock.worker.publisher.LOOK_S", 0.02)
    publisher, later = Publisher(store.models, store.workers, "w1", "cpu"), structs.replace(CODED, digest="later")
    await publisher.publish([CODED])
    await store.models.publish([later], worker="w2")
    await store.leases.renew(worker_info("w2", models=("coded",)), [])

    async def digest() -> str:
        return (await store.models.catalogue()).versions[0].model.digest

    async with published_by(publisher):
        await asyncio.sleep(0.1)
        while_it_runs = await digest()
        await store.workers.sign_off("w2")
        while await digest() != "d":
            await asyncio.sleep(0.01)

    assert while_it_runs == "later"


async def test_a_model_in_code_that_a_device_has_no_more_goes_and_those_of_others_stay(store: Store) -> None:
    names = ("gone", "elsewhere", "of-another", "kept")
    gone, elsewhere, other, kept = (Model(name=name, version="1", digest="d") for name in names)
    await store.models.publish([gone, elsewhere, kept, FIRST], worker="host-cpu-1")
    await store.models.publish([other], worker="host-cuda:0-1")
    await store.leases.renew(worker_info("host-cuda:0-1", models=("elsewhere",)), [])
    publisher = Publisher(store.models, store.workers, "host-cpu-2", "cpu")

    await publisher.publish([kept])
    await publisher.retract_former()

    assert set(await ids(store)) == {"elsewhere", "of-another", "kept", FIRST.id}


async def test_workers_are_told_to_load_a_model(store: Store) -> None:
    signals = store.workers.signals()
    assert await anext(signals) == ("look", "")

    await store.models.tell("load", "many@2")

    assert await anext(signals) == ("model", "load many@2")
    await signals.aclose()  # type: ignore[attr-defined]
