"""The invariants that hold whenever no call is under way, whoever has died."""

import hashlib
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from penstock.core.access import TENANT
from penstock.core.batch import part_key
from penstock.core.request import Request
from penstock.core.task import Artifact, Outcome, State
from penstock.core.upload import upload_key
from penstock.store import place_of
from tests.support.accounts import HELD
from tests.support.queue_snapshot import Snapshot, check_places

KEPT = re.compile(
    r"gone:.*|board|(pool|pools|flows|unseen|rate|uploadrate)(:.*)?|caps|parked|prompt|reaper|grace|workers|workers:seen"
    r"|drained|paused|tenants|account:.*|usage(:.*)?|inline"
)
"""The keys that may be there when all tasks, batches and uploads are deleted."""

Objects = Mapping[str, bytes]
"""By their keys."""


def broken(snapshot: Snapshot, objects: Objects) -> list[str]:
    """Returns every broken invariant in words."""
    return [fault for rule in RULES for fault in rule(snapshot, objects)]


def left_behind(snapshot: Snapshot, objects: Objects) -> list[str]:
    """Returns what is left after everything was deleted."""
    keys = [f"key left behind: {key}" for key in sorted(snapshot.keys) if not KEPT.fullmatch(key)]
    held = [
        f"still counted for {tenant}: {name} {account[name]}"
        for tenant, account in snapshot.under("account:").items()
        for name in HELD
        if float(account.get(name, 0))
    ]
    return [*keys, *held, *(f"object left behind: {key}" for key in sorted(objects))]


def _places(snapshot: Snapshot, _: Objects) -> Iterator[str]:
    """Counts, places and references are exact."""
    try:
        check_places(snapshot)
    except (AssertionError, KeyError) as error:
        yield f"not in its place: {traceback.extract_tb(error.__traceback__)[-1].line} {error}".strip()


def _results(snapshot: Snapshot, objects: Objects) -> Iterator[str]:
    """A success has its file, with the bytes of the attempt that succeeded."""
    for task_id, record in snapshot.records.items():
        file = _result_of(snapshot, task_id)
        if record["state"] != State.SUCCESS or file is None:
            continue
        if file.s3_key not in objects:
            yield f"SUCCESS without its result: {task_id} {file.s3_key}"
        elif hashlib.sha256(objects[file.s3_key]).hexdigest() != file.sha256:
            yield f"SUCCESS with the result of another attempt: {task_id}"


def _inputs(snapshot: Snapshot, objects: Objects) -> Iterator[str]:
    """A task that runs or can be run again has its input."""
    for task_id, record in snapshot.records.items():
        for key in _sources_of(snapshot, task_id) if record["state"] != State.SUCCESS else ():
            if key not in objects and key not in snapshot.keys.get(f"input:{task_id}", {}):
                yield f"{record['state']} without its input: {task_id} {key}"


def _lines(snapshot: Snapshot, objects: Objects) -> Iterator[str]:
    """A batch that exists has its lines."""
    for batch_id, record in snapshot.under("batch:").items():
        for part in range(int(record["parts"])):
            if "state" in record and part_key(record["tenant"], batch_id, part) not in objects:
                yield f"{record['state']} batch without its lines: {batch_id}"


def _owners(snapshot: Snapshot, objects: Objects) -> Iterator[str]:
    """Every object belongs to a record, or is listed as one to be deleted."""
    owned, prefixes = _owned(snapshot)
    for key in sorted(objects):
        if key not in owned and not key.startswith(tuple(prefixes)):
            yield f"object without owner: {key}"


def _caps(snapshot: Snapshot, _: Objects) -> Iterator[str]:
    """No tenant runs more tasks than its cap, and one that waits at its cap will be put back."""
    for tenant, cap in snapshot.keys.get("caps", {}).items():
        if len(snapshot.keys.get(f"state:{tenant}:{State.RUNNING}", ())) > int(cap):
            yield f"{tenant} runs more than {cap}"
    for place in snapshot.keys.get("parked", ()):
        tenant = place.partition(" ")[0]
        running = [f for f in snapshot.records.values() if f["tenant"] == tenant and f["state"] == State.RUNNING]
        if not any("capped" in f for f in running):
            yield f"nobody puts {tenant} back"


RULES: tuple[Callable[[Snapshot, Objects], Iterator[str]], ...] = (
    _places, _results, _inputs, _lines, _owners, _caps,
)  # fmt: skip


def _owned(snapshot: Snapshot) -> tuple[set[str], set[str]]:
    """Returns keys of objects, and prefixes of such keys."""
    written_down = [place_of(entry) for name in ("condemned", "awaited") for entry in snapshot.keys.get(name, ())]
    owned = {name for name in written_down if not name.endswith("/")}
    prefixes = {name for name in written_down if name.endswith("/")}
    for task_id, record in snapshot.records.items():
        owned |= _sources_of(snapshot, task_id)
        prefixes |= {f"results/{TENANT}/{ran}/" for ran in (task_id, record.get("origin", task_id))}
    owned |= {upload_key(record["tenant"], upload_id) for upload_id, record in snapshot.under("upload:").items()}
    prefixes |= {f"batches/{TENANT}/{batch_id}/" for batch_id in snapshot.under("batch:")}
    return owned, prefixes


def _sources_of(snapshot: Snapshot, task_id: str) -> set[str]:
    sources = _decoded(snapshot, f"body:{task_id}", Request).inputs.values()
    return {source.key for source in sources if source.key}


def _result_of(snapshot: Snapshot, task_id: str) -> Artifact | None:
    if f"outcome:{task_id}" not in snapshot.keys:
        return None
    result = _decoded(snapshot, f"outcome:{task_id}", Outcome).result
    return result.first if result else None


def _decoded(snapshot: Snapshot, key: str, kind: type[Any]) -> Any:
    return msgspec.json.decode(snapshot.keys[key], type=kind)
