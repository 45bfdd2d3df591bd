"""Results are stored once: a real S3 server refuses to replace one, and a server that cannot do so is seen."""

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
from msgspec.structs import replace

from penstock.errors import Internal, StorageUnavailable
from penstock.settings import StorageSettings
from penstock.storage import CHUNK_BYTES, Item, Storage, open_storage
from penstock.upkeep.links import check_links
from tests.support.faulty import Fault, http, peer_of

NAMESPACE = "once"
PNG = "image/png"
DATA = b"the result that a client has read" * 20_000
UNKNOWN = Fault(
    header="if-none-match", answer=http("501 Not Implemented", "<Error><Code>NotImplemented</Code></Error>")
)
"""What a server answers that does not know conditional writes."""


@pytest.fixture
async def storage(s3_server: StorageSettings) -> AsyncIterator[Storage]:
    async with open_storage(s3_server, NAMESPACE) as storage:
        yield storage
        await storage.clear("results/")


@pytest.fixture
def key() -> str:
    return f"results/tenant/{secrets.token_hex(8)}/1.png"


@pytest.mark.parametrize("other", [b"", b"other", DATA[:-1], DATA + b"!", DATA[:-1] + b"!"])
async def test_st3_a_result_is_never_replaced_by_other_bytes(storage: Storage, key: str, other: bytes) -> None:
    await storage.put(key, DATA, PNG, once=True)

    with pytest.raises(Internal, match="other bytes"):
        await storage.put(key, other, PNG, once=True)
    with pytest.raises(Internal, match="other bytes"):
        await storage.put_all([Item(key, other, PNG, once=True)])

    assert len(DATA) > CHUNK_BYTES, "it is compared in pieces"
    assert await storage.get(key) == DATA


async def test_st3_a_result_whose_first_answer_was_lost_counts_as_stored(storage: Storage, key: str) -> None:
    for data in (DATA, DATA):
        await storage.put_all([Item(key, data, PNG, once=True), Item(key + ".empty", b"", PNG, once=True)])

    assert await storage.get(key) == DATA


async def test_st3_of_many_that_store_under_one_key_one_succeeds(storage: Storage, key: str) -> None:
    all_data = [b"%d" % n * 50_000 for n in range(8)]

    ends = await asyncio.gather(*(storage.put(key, data, PNG, once=True) for data in all_data), return_exceptions=True)

    assert sum(end is None for end in ends) == 1
    assert await storage.get(key) == all_data[ends.index(None)]


async def test_st3_a_server_that_does_not_know_conditions_is_seen_and_stores_all_the_same(
    s3_server: StorageSettings, key: str
) -> None:
    async with peer_of(s3_server.s3_endpoint) as peer:
        peer.fault = UNKNOWN
        async with open_storage(replace(s3_server, s3_endpoint=peer.url), NAMESPACE) as storage:
            await storage.put(key, DATA, PNG, once=True)
            stored = await storage.get(key)
            puts = sum(line.startswith("PUT") for line in peer.seen)
            await storage.put(key, DATA, PNG, once=True)
            puts_then = sum(line.startswith("PUT") for line in peer.seen)
            report = await check_links(storage)
            await storage.delete(key)

    assert stored == DATA
    assert (puts, puts_then) == (2, 3), "it is asked once"
    assert report is not None
    assert not report.stores_once


@pytest.mark.parametrize(
    "refusal",
    [
        http("409 Conflict", "<Error><Code>ConditionalRequestConflict</Code></Error>"),
        http("412 Precondition Failed", "<Error><Code>PreconditionFailed</Code></Error>"),
    ],
    ids=["409", "412"],
)
async def test_st3_a_refusal_for_no_reason_that_can_be_seen_is_worth_a_retry(
    s3_server: StorageSettings, key: str, refusal: bytes
) -> None:
    """Another put of the same object is under way, or was just taken back."""
    async with peer_of(s3_server.s3_endpoint) as peer:
        async with open_storage(replace(s3_server, s3_endpoint=peer.url), NAMESPACE) as storage:
            peer.fault = Fault(header="if-none-match", answer=refusal)
            with pytest.raises(StorageUnavailable):
                await storage.put(key, DATA, PNG, once=True)
            peer.fault = Fault()
            await storage.put(key, DATA, PNG, once=True)
            stored = await storage.get(key)
            await storage.delete(key)

    assert stored == DATA


async def test_st3_the_check_at_the_start_says_that_a_server_stores_results_once(storage: Storage) -> None:
    report = await check_links(storage)

    assert report is not None
    assert report.stores_once
    assert [stored async for stored in storage.list("probe/")] == []
