"""The whole content of Redis for a queue at one moment, and the checks of what must be true of it."""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from penstock.core.batch import BatchState
from penstock.core.task import PRIORITIES, TRANSITIONS, Outcome, Priority, State
from penstock.store import Redis, place_of
from penstock.store.keys import idempotency_digest
from tests.support.accounts import check_accounts
from tests.support.queue_model import Expected, QueueModel

SAME_MOMENT_MS = 900
"""The clock of the tests stands still, but a call takes its time."""

SNAPSHOT = """
-- Everything in the namespace at one moment: {key, content, key, content ...}.
local read = {string = {'GET'}, hash = {'HGETALL'}, list = {'LRANGE', 0, -1}, set = {'SMEMBERS'},
  zset = {'ZRANGE', 0, -1, 'WITHSCORES'}}
local answer = {}
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do
  local kind = redis.call('TYPE', key).ok
  answer[#answer + 1] = string.sub(key, #KEYS[1] + 1)
  answer[#answer + 1] = kind
  answer[#answer + 1] = redis.call(read[kind][1], key, unpack(read[kind], 2))
end
return answer
"""


class Snapshot:
    """All keys of a namespace, without its root."""

    def __init__(self, flat: Sequence[Any]) -> None:
        rows = zip(flat[::3], flat[1::3], flat[2::3], strict=True)
        self.keys = {key.decode(): _decoded(key.decode(), kind.decode(), value) for key, kind, value in rows}
        self.records: dict[str, dict[str, str]] = self.under("task:")

    def under(self, prefix: str) -> dict[str, Any]:
        """Returns the content of all keys with this prefix, by the rest of the key."""
        return {key.removeprefix(prefix): value for key, value in self.keys.items() if key.startswith(prefix)}

    def attempts(self, task_id: str) -> list[dict[str, Any]]:
        """Returns the ended attempts of a task."""
        return [json.loads(entry) for entry in self.keys.get(f"attempts:{task_id}", "").splitlines()]

    def is_gone(self, task_id: str) -> bool:
        """Whether Redis remembers that this task was deleted, by the six bytes in the middle of its id."""
        mark = bytes.fromhex(task_id[16:28])
        return any(
            mark == marks[place : place + 6]
            for marks in self.under("gone:").values()
            for place in range(0, len(marks), 6)
        )


def _decoded(key: str, kind: str, value: Any) -> Any:
    if key.startswith("gone:"):
        return value
    if key.startswith("input:"):
        return {name.decode(): data for name, data in zip(value[::2], value[1::2], strict=True)}
    if kind == "string":
        return value.decode()
    texts = [part.decode() for part in value]
    if kind in ("list", "set"):
        return texts
    values = map(float, texts[1::2]) if kind == "zset" else texts[1::2]
    return dict(zip(texts[::2], values, strict=True))


async def take_snapshot(client: Redis, namespace: str) -> Snapshot:
    """Reads all keys at one moment."""
    return Snapshot(await client.eval(SNAPSHOT, 1, f"{{{namespace}}}:"))


def check_places(snapshot: Snapshot) -> None:
    """Checks that every task is exactly where its state says, and that nothing is anywhere without its task."""
    check_reuse(snapshot)
    check_outbox(snapshot)
    check_uploads(snapshot)
    check_batches(snapshot)
    check_storage(snapshot)
    check_inline(snapshot)
    check_flows(snapshot)
    check_accounts(snapshot)
    found: defaultdict[str, set[str]] = defaultdict(set)
    for place, members in snapshot.under("following:").items():
        for member in members:
            found[member.partition(" ")[2]].add(f"following:{place}")
    for place in [key for key in snapshot.keys if key.startswith("queue:") or key in ("delayed", "running", "finals")]:
        for member in snapshot.keys[place]:
            found[member.rpartition(" ")[2]].add(place)
    index: defaultdict[str, dict[str, float]] = defaultdict(dict)
    for task_id, record in snapshot.records.items():
        state = State(record["state"])
        waits = "delayed" if record["stage"] == "retry" else f"queue:{record['model']}:{record['priority']}"
        if record.get("reused") == "coalesced":
            waits = f"following:{record['model']}"
        assert found.pop(task_id, set()) == {
            "finals" if state.is_final else "running" if state is State.RUNNING else waits
        }
        index[f"state:{record['tenant']}:{state}"][task_id] = int(record["created"])
        attempts = Counter(entry["outcome"] for entry in snapshot.attempts(task_id))
        assert attempts.total() == int(record["epoch"]) - (state is State.RUNNING), "each claim ends once"
        if "reuse" not in record:  # with it, the task may lead after an equal one that killed workers
            assert attempts["lost"] >= int(record["crashes"])
        assert attempts["fail"] + attempts["retry"] >= int(record["failures"])
        assert attempts["complete"] == (state is State.SUCCESS and "origin" not in record)
    assert found == {}, "in a place, but there is no such task"
    assert {key: value for key, value in snapshot.keys.items() if key.startswith("state:")} == index
    live = {t: record.keys() for t, record in snapshot.records.items() if not State(record["state"]).is_final}
    limited = {t for t, fields in live.items() if fields & {"start_by", "started"} == {"start_by"}}
    assert snapshot.keys.get("starting", {}).keys() == limited
    assert snapshot.keys.get("deadlines", {}).keys() == {t for t, fields in live.items() if "deadline" in fields}
    assert snapshot.under("body:").keys() == snapshot.records.keys()
    of_tasks = {key.partition(":")[2] for key in snapshot.keys if "tsk_" in key}
    assert of_tasks == snapshot.records.keys(), "a deleted task leaves nothing but the mark that it is gone"
    assert not any(snapshot.is_gone(task_id) for task_id in snapshot.records)
    named = {
        record["idem"]: name
        for name, record in (snapshot.records | snapshot.under("batch:")).items()
        if "idem" in record
    }
    assert {digest: value.split()[0] for digest, value in snapshot.under("idem:").items()} == named
    assert snapshot.keys.get("workers", {}).keys() == snapshot.keys.get("workers:seen", {}).keys()
    check_board(snapshot)


def check_board(snapshot: Snapshot) -> None:
    """Checks that the board agrees with what is told at length elsewhere."""
    board = snapshot.keys.get("board", {})
    assert set(board.get("paused", "").split()) == snapshot.keys.get("paused", {}).keys()
    drained = {name.removeprefix("drained:") for name in board if name.startswith("drained:")}
    assert drained == snapshot.keys.get("drained", {}).keys()
    assert ("capped" in board) == ("caps" in snapshot.keys)
    found = [
        (name.removeprefix("pools:"), one) for name in board if name.startswith("pools:") for one in board[name].split()
    ]
    pools = snapshot.keys.get("pools", {})
    assert sorted(found) == sorted((model, one) for one, models in pools.items() for model in models.split())
    assert {f"pool:{one}" for one in pools} >= {key for key in snapshot.keys if key.startswith("pool:")}


def check_flows(snapshot: Snapshot) -> None:
    """Checks that a claim will find every waiting task: its owner stands in every pool with its model, or will when
    the next claim has looked. Paused queues are looked at when they go on. It also stands at the right place."""
    for queue, members in snapshot.under("queue:").items():
        model, _, priority = queue.rpartition(":")
        for member in members:
            f = snapshot.records[member.rpartition(" ")[2]]
            flow = f"{f['tenant']}/{f['caller']}"
            assert member == f"{flow}\n{int(f['created']):016} {member.rpartition(' ')[2]}"
            for pool in pools_with(snapshot, model):
                flows = f"flows:{pool}:{priority}"
                last = snapshot.keys.get(f"unseen:{pool}:{priority}", {}).get(model, flow)
                is_there = f["caller"] in snapshot.keys.get(f"{flows}:{f['tenant']}", {})
                assert not is_there or f["tenant"] in snapshot.keys[flows]
                assert is_there or last < flow or queue in snapshot.keys.get("paused", {}), "nobody would find it"
    infinite = {f"{t} {key}" for key, set_ in snapshot.under("flows:").items() for t in set_ if set_[t] == float("inf")}
    assert infinite <= snapshot.keys.get("parked", {}).keys(), "nobody would put it back"
    for key in snapshot.under("unseen:"):
        assert snapshot.keys[f"flows:{key}"]["*"] == float("-inf"), "or nobody would look on"


def pools_with(snapshot: Snapshot, model: str) -> list[str]:
    """Returns the pools whose workers serve the model."""
    return [pool for pool, models in snapshot.keys.get("pools", {}).items() if model in models.split()]


def check_shares(model: QueueModel, snapshot: Snapshot) -> None:
    """Checks that the clocks are those of the model, which adopts those of Redis where it cannot know them."""
    pools = {tuple(models.split()): pool for pool, models in snapshot.keys.get("pools", {}).items()}
    assert pools.keys() == model.shares.pools.keys()
    slack_ms = model.shares.slack_ms()
    for models, clocks in model.shares.pools.items():
        for priority, clock in clocks.items():
            key = f"{pools[models]}:{priority}"
            flows = snapshot.keys.get(f"flows:{key}", {})
            assert snapshot.keys.get(f"unseen:{key}", {}).keys() == clock.unseen
            waiting = {
                (task.submission.tenant, task.submission.caller)
                for name in models
                for task in model.shares.waiting_in(name, priority)
            }
            of_pool = snapshot.keys.get(f"pool:{pools[models]}", {})
            kept = {
                name.removeprefix(f"f:{priority}:"): float(start)
                for name, start in of_pool.items()
                if name.startswith(f"f:{priority}:")
            }
            callers = snapshot.under(f"flows:{key}:")
            for tenant in clock.callers.keys() | callers.keys():
                wait = {caller for of, caller in waiting if of == tenant}
                _meet(clock.callers[tenant], callers.get(tenant, {}), wait, clock.left, kept, f"{tenant}/")
                _agree(clock.callers[tenant], callers.get(tenant, {}), slack_ms)
            tenants = {name: start for name, start in flows.items() if name != "*"}
            _meet(clock.tenants, tenants, {tenant for tenant, _ in waiting}, clock.left, kept)
            _agree(clock.tenants, tenants, slack_ms)
            assert float(of_pool.get(f"v:{priority}", 0.0)) == clock.v, (key, of_pool, clock)
            assert int(of_pool.get(priority, 0)) == clock.passed
            here = clock.tenants.keys() | {f"{tenant}/{name}" for tenant in callers for name in callers[tenant]}
            left = {name: start for name, start in clock.left.items() if name not in here}
            _agree(left, {name: start for name, start in kept.items() if name in left}, slack_ms)
            clock.left |= left


def _meet(
    ours: dict[str, float],
    theirs: Mapping[str, float],
    waiting: set[str],
    left: dict[str, float],
    kept: Mapping[str, float],
    prefix: str = "",
) -> None:
    """An owner with no waiting tasks may stand in a clock or not, since the script decides by the order in which it
    meets tasks: several may end in one call, and the owner met first may have queued another. The model then adopts
    Redis's view."""
    for name in ours.keys() ^ theirs.keys():
        assert name not in waiting, (name, ours, theirs)
        if name in theirs:
            ours[name] = theirs[name]
        else:
            del ours[name]
            if prefix + name in kept:
                left[prefix + name] = kept[prefix + name]


def _agree(ours: dict[str, float], theirs: Mapping[str, float], slack_ms: float) -> None:
    """Checks equality within the slack; the model then adopts Redis's values."""
    assert ours.keys() == theirs.keys(), (ours, theirs)
    for name, start in ours.items():  # infinite where a tenant is parked
        assert start == theirs[name] or abs(start - theirs[name]) <= slack_ms, (ours, theirs, slack_ms)
    ours |= theirs


def check_reuse(snapshot: Snapshot) -> None:
    """Checks that every task that waits for an equal one waits for one that will end, and that the number of records
    that show a result is right."""
    records, leaders = snapshot.records, snapshot.keys.get("reuse", {})
    for digest, leader in leaders.items():
        assert records[leader]["reuse"] == digest
        assert records[leader]["state"] in (State.PENDING, State.RUNNING, State.SUCCESS)
        assert records[leader]["stage"] != "retry"
        assert "reused" not in records[leader]
    for model, members in snapshot.under("following:").items():
        for digest, _, follower in (member.partition(" ") for member in members):
            leader = records[leaders[digest]]
            assert records[follower]["reuse"] == digest
            assert records[follower]["caller"] == leader["caller"]
            assert not State(leader["state"]).is_final or f"{model} {digest}" in snapshot.keys["answering"]
    shown_by = Counter(f.get("origin", task_id) for task_id, f in records.items() if f["state"] == State.SUCCESS)
    others = {origin: str(count - 1) for origin, count in shown_by.items() if count > 1}
    assert snapshot.keys.get("shared", {}) == others
    for task_id, record in records.items():
        if "origin" in record:
            assert (record["state"], record["epoch"]) == (State.SUCCESS, "0")
            outcome = snapshot.keys[f"outcome:{task_id}"]
            assert snapshot.keys.get(f"outcome:{record['origin']}", outcome) == outcome


def check_leaders(snapshot: Snapshot) -> None:
    """Checks that no task waits for one that is served later; after a pause or a resume that takes a second call."""
    records, leaders = snapshot.records, snapshot.keys.get("reuse", {})
    for members in snapshot.under("following:").values():
        for digest, _, follower in (member.partition(" ") for member in members):
            leader = records[leaders[digest]]
            assert leader["state"] != State.PENDING or rank(snapshot, leader) <= rank(snapshot, records[follower])


def rank(snapshot: Snapshot, f: dict[str, str]) -> tuple[bool, int]:
    """Returns the rank of the task's class in the order of service."""
    is_paused = f"{f['model']}:{f['priority']}" in snapshot.keys.get("paused", {})
    return is_paused, PRIORITIES.index(Priority(f["priority"]))


def check_storage(snapshot: Snapshot) -> None:
    """Checks that no object is to be deleted, now or later, that a record shows or still needs."""
    condemned = {place_of(entry) for entry in snapshot.keys.get("condemned", {})}
    inputs = {f"inputs/{f['tenant']}/{i}{f['input']}" for i, f in snapshot.records.items() if "input" in f}
    results = {f"results/{f['tenant']}/{f.get('origin', task_id)}/" for task_id, f in snapshot.records.items()}
    assert not condemned & (inputs | results)
    assert not snapshot.keys.get("awaited", {}).keys() & (inputs | condemned)


def check_inline(snapshot: Snapshot) -> None:
    """Checks that Redis has the inputs of exactly those tasks whose records say so, that their sum is right, and that
    those of ended tasks can be moved."""
    found = snapshot.under("input:")
    inline = {task_id: f["inline"].split(" ") for task_id, f in snapshot.records.items() if "inline" in f}
    assert found.keys() == inline.keys()
    for task_id, (size, rest) in inline.items():
        own = f"inputs/{snapshot.records[task_id]['tenant']}/{task_id}{rest}"
        assert sum(map(len, found[task_id].values())) == int(size)
        assert all(key.startswith(own) if rest.endswith("/") else key == own for key in found[task_id])
    assert int(snapshot.keys.get("inline", 0)) == sum(int(size) for size, _ in inline.values())
    ended = {task_id for task_id in inline if State(snapshot.records[task_id]["state"]).is_final}
    assert snapshot.keys.get("inline:ended", {}).keys() == ended


def check_batches(snapshot: Snapshot) -> None:
    """Checks that a batch counts its tasks right, has a row for each ended line, and has ended when all lines have."""
    lines: defaultdict[str, dict[str, State]] = defaultdict(dict)
    for record in snapshot.records.values():
        place, _, batch = record.get("batch", "").partition(" ")
        lines[batch][place] = State(record["state"])
    unfinished = {batch for members in snapshot.under("unfinished:").values() for batch in members}
    for batch, f in snapshot.under("batch:").items():
        if "state" not in f:
            assert batch in snapshot.keys["closed"], "what is being received is given up in time"
            continue
        live = {place: state for place, state in lines[batch].items() if not state.is_final}
        assert set(snapshot.keys.get(f"open:{batch}", [])) == live.keys()
        rows = [row.split(" ") for row in snapshot.keys.get(f"ends:{batch}", [])]
        last = {place: State(state.removeprefix("-")) for place, state, *_ in rows}
        ended = {place: state for place, state in last.items() if place not in live}
        known = {place: state for place, state in lines[batch].items() if state.is_final}
        assert known.items() <= ended.items()
        assert {state: int(f.get(state, 0)) for state in State} == {
            state: [*live.values(), *ended.values()].count(state) for state in State
        }
        assert {int(place) for place in live.keys() | ended.keys()} == set(range(int(f["fed"]))), (
            "none lost, none twice"
        )
        is_over = f["fed"] == f["total"] and not live
        assert BatchState(f["state"]).is_final == is_over
        assert (batch in snapshot.keys.get("closed", {})) == is_over == (batch not in unfinished)
        assert is_over or f["fed"] == f["total"] or batch in snapshot.keys["feeding"], "somebody will look at it"


def check_outbox(snapshot: Snapshot) -> None:
    """Checks that every owed event belongs to an existing task, and that every undelivered event is owed."""
    rows = {
        f"{task_id} {name}": json.loads(row)
        for task_id, events in snapshot.under("events:").items()
        for name, row in events.items()
        if name.isdigit()
    }
    owed = {member: due for zset in snapshot.under("outbox:").values() for member, due in zset.items()}
    due = {member: row["due"] for member, row in rows.items() if "due" in row}
    assert owed.keys() == due.keys()
    assert all(owed[member] <= due[member] for member in due), "earlier where the clock was set back"
    assert all(("due" in row) == (row["status"] in ("waiting", "leased")) for row in rows.values())
    earliest = {endpoint: min(zset.values()) for endpoint, zset in snapshot.under("outbox:").items()}
    lanes = [snapshot.keys.get(lane, {}).keys() for lane in ("outbox", "outbox-prompt")]
    assert lanes[0] | lanes[1] == earliest.keys()
    assert not lanes[0] & lanes[1]
    assert all(len(record.get("hook", "")) <= 64 for record in snapshot.records.values()), "or it costs 0.5 KB more"


def uploads_in(record: dict[str, str]) -> tuple[str, ...]:
    """Returns the uploads that a record names, in their order."""
    return tuple(record[field] for field in sorted(record) if field.startswith("upload"))


def check_uploads(snapshot: Snapshot) -> None:
    """Checks that an upload has a time of removal exactly while no record names it."""
    named = Counter(upload for record in snapshot.records.values() for upload in uploads_in(record))
    uploads = snapshot.under("upload:")
    assert {upload_id: int(f.get("tasks", 0)) for upload_id, f in uploads.items()} == {u: named[u] for u in uploads}
    assert snapshot.keys.get("uploads", {}).keys() == {u for u in uploads if not named[u]}
    assert named.keys() <= uploads.keys()


def check_history(before: Snapshot, after: Snapshot) -> None:
    """Checks what holds over any stretch of time: epochs grow, attempts stay, success is final."""
    for task_id, old in before.records.items():
        new = after.records.get(task_id)
        if new is not None:
            ended = before.attempts(task_id)
            assert after.attempts(task_id)[: len(ended)] == ended
            assert int(new["epoch"]) >= int(old["epoch"])
            if old["state"] == State.SUCCESS:
                assert unmoved(after, task_id) == unmoved(before, task_id)


def check_step(before: Snapshot, after: Snapshot) -> None:
    """Checks what holds over one call: a task makes at most one allowed move, and an ended one changes in nothing
    else."""
    allowed = {(source, target) for (source, _), target in TRANSITIONS.items()}
    for task_id, old in before.records.items():
        source, new = State(old["state"]), after.records.get(task_id)
        if new is None:
            assert source.is_final, "only what is final is ever deleted"
            continue
        claimed = (source, new["state"]) == (State.PENDING, State.RUNNING)
        assert new["state"] == source or (source, State(new["state"])) in allowed
        assert int(new["epoch"]) == int(old["epoch"]) + claimed
        if source.is_final and new["state"] == source:
            assert unmoved(after, task_id) == unmoved(before, task_id)


def unmoved(snapshot: Snapshot, task_id: str) -> tuple[dict[str, str], str | None]:
    """Returns everything of a task that the clock of the test does not change, but for the place of its input."""
    record = snapshot.records[task_id]
    movable = ("start_by", "deadline", "cut_off", "input", "inline", "held")
    fields = {name: value for name, value in record.items() if name not in movable}
    return fields, snapshot.keys.get(f"outcome:{task_id}")


def check_agreement(model: QueueModel, snapshot: Snapshot, *, ahead_ms: int) -> None:
    """Checks that records, places, order and times are those of the model."""
    tasks = model.tasks
    assert {t: seen_of(snapshot, t) for t in snapshot.records} == {t: seen_of_model(e) for t, e in tasks.items()}
    for task_id, task in tasks.items():
        digest = snapshot.records[task_id].get("idem")
        name = task.submission.request.client_request_id
        assert digest == (idempotency_digest(task.submission.tenant, task.submission.caller, name) if name else None)
        assert uploads_in(snapshot.records[task_id]) == (() if task.reuse == "hit" else task.submission.uploads)
    check_shares(model, snapshot)
    assert snapshot.keys.get("reuse", {}) == model.leaders
    assert snapshot.keys.get("paused", {}).keys() == {f"{name}:{priority}" for name, priority in model.paused}
    assert snapshot.keys.get("drained", {}).keys() == model.drained
    following = {member.partition(" ")[2] for members in snapshot.under("following:").values() for member in members}
    assert following == {t for t, e in tasks.items() if e.place == "following"}
    assert {batch: batch_seen(snapshot, batch) for batch in snapshot.under("batch:")} == {
        batch: (e.state, e.fed, e.epoch, by_line(e.rows), e.told) for batch, e in model.batches.items()
    }
    moments = {place: {t: e.score for t, e in tasks.items() if e.place == place} for place in ("delayed", "running")}
    moments["finals"] = {t: e.score for t, e in tasks.items() if e.state.is_final}
    moments["starting"] = {t: e.start_by for t, e in tasks.items() if e.starting}
    moments["deadlines"] = {t: e.deadline for t, e in tasks.items() if e.timed}
    moments["inline:ended"] = {t: e.inline_due for t, e in tasks.items() if e.inline and e.state.is_final}
    assert {t: snapshot.records[t].get("inline", "0").split(" ")[0] for t in tasks} == {
        t: str(e.inline) for t, e in tasks.items()
    }
    moments |= {"workers:seen": model.seen, "condemned": model.condemned, "awaited": model.awaited}
    for place, expected in moments.items():
        found = {member: score - ahead_ms for member, score in snapshot.keys.get(place, {}).items()}
        assert found.keys() == expected.keys(), place
        timed = [member for member in found if not member.startswith("again ")]  # the second check may come late
        assert all(abs(found[member] - expected[member]) < SAME_MOMENT_MS for member in timed), (place, found, expected)


def seen_of(snapshot: Snapshot, task_id: str) -> tuple[Any, ...]:
    """Returns the part of a record that the model knows too."""
    f = snapshot.records[task_id]
    outcome = msgspec.json.decode(snapshot.keys.get(f"outcome:{task_id}", "{}"), type=Outcome)
    ending = outcome.error.code if outcome.error else outcome.result and outcome.result.data["by"]
    progress = (int(f["done"]), int(f["total"])) if "total" in f else None
    attempts = [(entry["n"], entry["worker"], entry["outcome"]) for entry in snapshot.attempts(task_id)]
    crashes = known_crashes(State(f["state"]), int(f["epoch"]), int(f["crashes"]))
    counts = (int(f["epoch"]), int(f["failures"]), crashes, float(f.get("charged", 0)))
    reuse = f.get("reused", "miss"), f.get("origin")
    events = {
        int(name): json.loads(row) for name, row in snapshot.keys.get(f"events:{task_id}", {}).items() if name.isdigit()
    }
    told = [events[seq]["what"] for seq in sorted(events)]
    assert sorted(events) == list(range(1, len(events) + 1)), "no end is left out"
    return f["state"], f["stage"], counts, f.get("worker"), progress, f.get("receipt"), ending, reuse, attempts, told


def known_crashes(state: State, epoch: int, crashes: int) -> int:
    """Returns the crashes of a task, and 0 for one that has ended without an attempt: whether it led the equal ones for
    a moment, and so took over their crashes, depends on the ms of the deadlines that one sweep finds."""
    return 0 if state.is_final and not epoch else crashes


def batch_seen(snapshot: Snapshot, batch: str) -> tuple[Any, ...]:
    """Returns the part of a batch that the model knows too."""
    f = snapshot.keys[f"batch:{batch}"]
    events = snapshot.keys.get(f"events:{batch}", {})
    told = [json.loads(events[name])["what"] for name in sorted(filter(str.isdigit, events), key=int)]
    rows = [" ".join(row.split(" ")[:2]) for row in snapshot.keys.get(f"ends:{batch}", [])]
    return f["state"], int(f["fed"]), int(f["epoch"]), by_line(rows), told


def by_line(rows: list[str]) -> list[str]:
    """Returns the ends of each line in their order. Which of two lines ends first in one sweep depends on the ms of
    their deadlines, and the model's clock knows only ticks."""
    return sorted(rows, key=lambda row: int(row.split(" ")[0]))


def seen_of_model(e: Expected) -> tuple[Any, ...]:
    """Returns the same from the model."""
    counts = (e.epoch, e.failures, known_crashes(e.state, e.epoch, e.crashes), e.charged)
    reuse = e.reuse, e.origin
    return e.state, e.stage, counts, e.worker, e.progress, e.receipt, e.ending, reuse, e.attempts, e.told
