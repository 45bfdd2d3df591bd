"""Faults that are planted in a copy of the product: the seeds must find each, and a seed that has found one must do the
same again in another process."""

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
LUA = "penstock/store/lua"
FOUND = re.compile(r"^seed (\d+): (\w+),", re.MULTILINE)
ANOTHER_HASH_SEED, YET_ANOTHER = "1", "271828"


class PlantedFault(NamedTuple):
    """`text` stands exactly once in `file`, below src, and is replaced by `instead`."""

    name: str
    file: str
    text: str
    instead: str


PLANTED = (
    PlantedFault(
        "a lost fence: an attempt ends its task though another one has it",
        f"{LUA}/settle.lua",
        "if not to or token_of(task) ~= token or not end_lease(id) then",
        "if not to or not end_lease(id) then",
    ),
    PlantedFault(
        "a claim that counts no further: its number is that of the one before",
        f"{LUA}/parts/claim.lua",
        "local now, epoch = now_ms(), task.epoch + 1",
        "local now, epoch = now_ms(), math.max(1, task.epoch)",
    ),
    PlantedFault(
        "a late renewal: leases end while their worker is well",
        "penstock/worker/leases.py",
        "async with asyncio.timeout(self._lease_s / 4 - soonest_s):",
        "async with asyncio.timeout(self._lease_s * 1.5):",
    ),
    PlantedFault(
        "a missed wake-up: dispatchers do not hear of a message",
        f"{LUA}/parts/webhook.lua",
        "  redis.call('PUBLISH', ROOT .. 'posted', '')\n",
        "",
    ),
    PlantedFault(
        "a missed wake-up: workers do not hear of a task",
        f"{LUA}/parts/queue.lua",
        "  redis.call('PUBLISH', ROOT .. 'signals', 'queued ' .. task.model)\n",
        "",
    ),
    PlantedFault(
        "a forgotten requeue: a retry that is due leaves its place for no other",
        f"{LUA}/parts/claim.lua",
        "      publish_change(task)\n      enqueue(task)\n",
        "      publish_change(task)\n",
    ),
    PlantedFault(
        "a worker that stops hands nothing back",
        "penstock/worker/attempt.py",
        "return None if is_stopped() else self._release(lease)",
        "return None",
    ),
    PlantedFault(
        "a message that was refused is given up",
        "penstock/webhooks/dispatcher.py",
        'return "waiting", max(wait_s + jitter_s, outcome.retry_after_s)',
        'return "failed", None',
    ),
    PlantedFault(
        "two tasks of one name: a repeated submit is taken for a new one",
        f"{LUA}/submit.lua",
        "  redis.call('SET', ROOT .. 'idem:' .. request_digest, id .. ' ' .. fingerprint)\n",
        "",
    ),
)


def find_all(first: int, seeds: int, only: str) -> int:
    """Plant one fault after the other, and say which seed finds it. Returns how many were not found, or did something
    else in a second process."""
    chosen = [one for one in PLANTED if only in one.name]
    missed = [one.name for one in chosen if not _is_found(one, first, seeds)]
    print(f"{len(chosen) - len(missed)} of {len(chosen)} found" + "".join(f"\n  NOT FOUND: {one}" for one in missed))
    return len(missed)


def _is_found(fault: PlantedFault, first: int, seeds: int) -> bool:
    started = time.monotonic()
    with _planted(fault) as source:
        said = _run(source, ANOTHER_HASH_SEED, "--first-fault", "--seeds", str(seeds), "--from", str(first))
        found = FOUND.search(said)
        if found is None:
            print(f"NOT FOUND in {seeds} seeds: {fault.name}", flush=True)
            return False
        again = FOUND.search(_run(source, YET_ANOTHER, "--seed", found[1]))
    is_same = again is not None and again.groups() == found.groups()
    what = re.search(r"WRONG (.*)", said)
    word = "found" if is_same else f"DOES NOT REPLAY ({again and again[2]}, not {found[2]})"
    took_s = time.monotonic() - started
    print(f"{word} by seed {found[1]}, {took_s:.0f} s: {fault.name}\n    {what and what[1]}", flush=True)
    return is_same


@contextmanager
def _planted(fault: PlantedFault) -> Iterator[Path]:
    """Yields a folder with the product, in which one file is another."""
    with tempfile.TemporaryDirectory(prefix="planted-") as directory:
        copy = Path(directory)
        for path in (ROOT / "src").rglob("*"):
            if path.is_dir() or "__pycache__" in path.parts:
                continue
            place = copy / path.relative_to(ROOT / "src")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(path)
        place = copy / fault.file
        plain = place.read_text()
        assert plain.count(fault.text) == 1, f"{fault.file} does not have this once: {fault.text!r}"
        place.unlink()
        place.write_text(plain.replace(fault.text, fault.instead))
        yield copy


def _run(source: Path, hash_seed: str, *options: str) -> str:
    finished = subprocess.run(
        [sys.executable, "-m", "tests.seeds", *options],
        cwd=ROOT,
        env=os.environ
        | {"PYTHONPATH": f"{source}{os.pathsep}{ROOT}", "PYTHONHASHSEED": hash_seed, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        check=False,
        text=True,
    )
    return finished.stdout
