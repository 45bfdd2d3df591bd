"""What is wrong now, in words: the conditions of the alerts that Redis alone can tell, with what to do."""

from collections.abc import Callable, Iterator
from typing import Literal

from msgspec import Struct

from penstock.api.console.page.words import duration, number
from penstock.api.console.reads.overview import Now
from penstock.core.task import Priority

OLD_S = 300.0
"""As the alert PenstockQueueOld has it."""
FAILING, FAILING_OF = 0.05, 20
FAILING_MINUTES = 10
"""What counts as failing: this share of more than so many tasks, in so many minutes."""
NEARLY_FULL = 0.9
OF_INPUT = ("input_", "image_", "unsupported_image_format", "invalid_request")
"""Beginnings of the codes of errors that the client's input has caused."""


class Wrong(Struct, frozen=True):
    """A condition that holds now: how bad it is, what it is, what to do, and the screen that shows more."""

    tone: Literal["bad", "warn", "info"]
    what: str
    do: str
    path: str


def wrong_now(now: Now, *, max_depth: int) -> list[Wrong]:
    """Return the conditions that hold, the worst first."""
    found = [one for rule in RULES for one in rule(now)]
    found += _nearly_full(now, max_depth)
    order = ("bad", "warn", "info")
    return sorted(found, key=lambda one: order.index(one.tone))


def _storage(now: Now) -> Iterator[Wrong]:
    if now.storage_problem:
        do = "Inputs are refused, and results wait on their worker. `penstock doctor` says what to change."
        yield Wrong("bad", f"The storage does not answer: {now.storage_problem}", do, "/")


def _no_worker(now: Now) -> Iterator[Wrong]:
    waiting = sum(queue.depth for queue in now.stats.queues)
    if waiting and not now.stats.workers.get("READY"):
        do = "Start workers, or read in their log why they do not become ready."
        yield Wrong("bad", f"{number(waiting)} tasks wait and no worker is ready", do, "/workers")


def _workers(now: Now) -> Iterator[Wrong]:
    for worker in now.workers:
        name = f"{worker.device} on {worker.host}"
        if worker.state == "DOWN":
            do = f"{worker.reason}. Look for Xid in dmesg, reset the card or reboot; it is tried again by itself."
            yield Wrong("bad", f"{name} is down", do, "/workers")
        elif worker.state == "DRAINING":
            yield Wrong("info", f"{worker.id} drains", "It finishes what it runs and claims nothing more.", "/workers")
        if worker.spool_full:
            do = "Bring the storage back, or free space in it."
            yield Wrong("bad", f"{worker.id} claims nothing: its spool is full of results", do, "/workers")


def _failing(now: Now) -> Iterator[Wrong]:
    last = now.rates[-FAILING_MINUTES:]
    done, failed = sum(one.done for one in last), sum(one.failed for one in last)
    all_codes = sum(now.errors.values())
    of_server = sum(n for code, n in now.errors.items() if not code.startswith(OF_INPUT))
    failed *= of_server / all_codes if all_codes else 0.0
    if done + failed > FAILING_OF and failed / (done + failed) > FAILING:
        what = f"{failed / (done + failed):.0%} of the tasks of the last {FAILING_MINUTES} minutes fail"
        yield Wrong("bad", what, "By no fault of their input: the errors below say with what.", "/tasks?status=FAILED")


def _old(now: Now) -> Iterator[Wrong]:
    for queue in now.stats.queues:
        if queue.depth and queue.priority is not Priority.LOW and queue.oldest_s > OLD_S and not queue.paused:
            what = f"A task of {queue.model} ({queue.priority}) has waited for {duration(queue.oldest_s)}"
            yield Wrong("warn", what, "Add workers, or look which stage has become slow.", "/tasks?status=PENDING")


def _records(now: Now) -> Iterator[Wrong]:
    if now.unreadable:
        what = f"{number(now.unreadable)} records could not be read and were set aside"
        yield Wrong("warn", what, "`penstock doctor` names them.", "/tasks?error_code=record_unreadable")


def _differing(now: Now) -> Iterator[Wrong]:
    for model in now.differing:
        do = "Its results depend on who runs it: give all workers the same files."
        yield Wrong("warn", f"Workers have different files of {model}", do, "/models")


def _paused(now: Now) -> Iterator[Wrong]:
    for queue in now.stats.queues:
        if queue.paused:
            what = f"The queue of {queue.model} at priority {queue.priority} is paused"
            yield Wrong("info", what, f"By {queue.paused.by}. Its tasks wait until it is resumed.", "/queues")


def _nearly_full(now: Now, max_depth: int) -> Iterator[Wrong]:
    models = {queue.model for queue in now.stats.queues}
    for model in sorted(models):
        depth = sum(queue.depth for queue in now.stats.queues if queue.model == model)
        if depth >= NEARLY_FULL * max_depth:
            what = f"{number(depth)} of {number(max_depth)} tasks wait that may wait for {model}"
            yield Wrong(
                "warn", what, "Further ones are refused soon: add workers, or raise `queue.max_depth`.", "/queues"
            )


RULES: tuple[Callable[[Now], Iterator[Wrong]], ...] = (
    _storage, _no_worker, _workers, _failing, _old, _records, _differing, _paused,
)  # fmt: skip
