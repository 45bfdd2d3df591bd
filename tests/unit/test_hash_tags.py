"""Where tenants and hash tags are."""

import pytest
from redis.crc import key_slot

from penstock.store.keys import shard_of
from penstock.store.shards import SLOTS, tags_of


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 16, 64])
@pytest.mark.parametrize("namespace", ["penstock", "a", "site-7"])
def test_every_part_of_the_slots_has_one_tag(namespace: str, count: int) -> None:
    tags = tags_of(namespace, count)
    assert tags[0] == namespace, "one shard has the keys that it always had"
    assert sorted(key_slot(tag.encode()) * count // SLOTS for tag in tags) == list(range(count))
    assert tags == tags_of(namespace, count), "every process finds the same"


def test_the_shard_of_a_tenant_never_changes() -> None:
    assert [shard_of(name, 4) for name in ("default", "alice", "bob", "carol", "acme")] == [1, 3, 2, 2, 0]
    assert {shard_of(name, 1) for name in ("default", "alice")} == {0}


def test_tenants_are_spread_evenly() -> None:
    found = [shard_of(f"tenant-{number}", 4) for number in range(4000)]
    assert all(900 < found.count(one) < 1100 for one in range(4))
