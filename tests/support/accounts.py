"""What the account of each tenant must say, by what is in Redis at one moment."""

import re
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from penstock.core.task import State
from penstock.store.scripts import PARTS

if TYPE_CHECKING:
    from tests.support.queue_snapshot import Snapshot

HELD = ("redis", "storage", "lines", "reserved_ms")
TASK_BYTES = int(re.findall(r"TASK_BYTES = (\d+)", PARTS["TASK_BYTES"])[0])


def check_accounts(snapshot: "Snapshot") -> None:
    """Checks that each tenant is charged for exactly what there is of it, and that what was submitted and has not ended
    is what waits and runs."""
    expected = _of_tasks(snapshot)
    for batch_id, f in snapshot.under("batch:").items():
        lines = int(f.get("total", 0)) - int(f.get("fed", 0)) + len(snapshot.keys.get(f"open:{batch_id}", []))
        held = Counter(redis=int(f["redis_bytes"]), storage=int(f.get("stored_bytes", 0)), lines=lines)
        expected[f["tenant"]] += held
    for f in snapshot.under("upload:").values():
        expected[f["tenant"]] += Counter(redis=int(f["redis_bytes"]), storage=int(f["size"]))
    accounts = snapshot.under("account:")
    charged = {tenant: {name: int(f.get(name, 0)) for name in HELD} for tenant, f in accounts.items()}
    assert expected.keys() <= charged.keys()
    assert charged == {tenant: {name: expected[tenant][name] for name in HELD} for tenant in charged}
    live = Counter(f["tenant"] for f in snapshot.records.values() if not State(f["state"]).is_final)
    assert {tenant: _unfinished(snapshot, tenant) for tenant in accounts} == {
        tenant: live[tenant] for tenant in accounts
    }


def used_by(snapshot: "Snapshot", tenant: str) -> Counter[str]:
    """Returns the sums of a tenant over all days."""
    total: Counter[str] = Counter()
    days = [f for key, f in snapshot.under("usage:").items() if key.rpartition(":")[0] == tenant]
    for f in (snapshot.keys.get(f"account:{tenant}", {}), *days):
        total.update({name: float(number) for name, number in f.items() if name not in (*HELD, "day")})  # type: ignore[arg-type]
    return total


def _of_tasks(snapshot: "Snapshot") -> defaultdict[str, Counter[str]]:
    found: defaultdict[str, Counter[str]] = defaultdict(Counter)
    files: dict[tuple[str, str], int] = {}
    for task_id, f in snapshot.records.items():
        in_redis, of_input, of_result, reserved_ms = map(int, f["held"].split())
        assert in_redis == TASK_BYTES + _bytes_of(snapshot, task_id), task_id
        found[f["tenant"]].update(redis=in_redis, storage=of_input)
        if not State(f["state"]).is_final:
            found[f["tenant"]].update(reserved_ms=reserved_ms)
        shown = f["tenant"], f.get("origin", task_id)
        assert files.setdefault(shown, of_result) == of_result, "equal tasks show the same files"
    for (tenant, _), size in files.items():
        found[tenant].update(storage=size)
    return found


def _bytes_of(snapshot: "Snapshot", task_id: str) -> int:
    texts = [snapshot.keys.get(f"{part}:{task_id}", "") for part in ("body", "outcome", "attempts", "log")]
    inline = snapshot.keys.get(f"input:{task_id}", {}).values()
    return sum(len(text.encode()) for text in texts) + sum(map(len, inline))


def _unfinished(snapshot: "Snapshot", tenant: str) -> int:
    used = used_by(snapshot, tenant)
    return int(used["submitted"] - sum(used[state.lower()] for state in State if state.is_final))
