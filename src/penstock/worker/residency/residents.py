"""Residents: the models of a worker, which tasks use and wait for."""

import asyncio
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import cast

from msgspec import Struct
from msgspec.structs import replace

from penstock.core.model import Member, Model, Residence
from penstock.core.task import Priority
from penstock.errors import ModelNotFound, ModelUnavailable
from penstock.worker.batcher.device_work import Runner
from penstock.worker.residency.resident import Offer, Resident, Use
from penstock.worker.task_log import TaskLog


class Residents:
    """The models of a worker by their ids. `ModelLoads` loads and unloads them, and is told by `stirred` that there may
    be something to do. `on_change` is called whenever `models` or `residence` may return something else."""

    def __init__(self, on_change: Callable[[], None] = lambda: None) -> None:
        self.on_change = on_change
        self.stirred = asyncio.Event()
        self.retired: list[Resident] = []
        """Those that were replaced or dropped, and are still used."""
        self._all: dict[str, Resident] = {}
        self._models: tuple[str, ...] = ()

    def __iter__(self) -> Iterator[Resident]:
        return iter((*self._all.values(), *self.retired))

    def __contains__(self, model: str) -> bool:
        return model in self._all

    # --- for tasks --------------------------------------------------------------------------------------------

    def has_fixed(self, name: str) -> bool:
        """Whether a model of the worker's own code has this name."""
        return (known := self._all.get(name)) is not None and known.fixed

    def runner_of(self, model: str) -> Runner | None:
        """The loaded model of this id; None where it is not loaded."""
        resident = self._all.get(model)
        return None if resident is None else resident.runner

    def take(self, model: str) -> Use | None:
        """Use a model that is loaded; None where the task has to `wait`. Raises ModelNotFound for one that is not
        here, and ModelUnavailable for one that cannot be loaded."""
        resident = self._known(model)
        if resident.is_usable:
            return resident.use()
        if resident.gone or resident.is_refused(time.monotonic()):
            raise ModelUnavailable(f"{model}: {resident.gone or resident.reason}")
        return None

    @contextmanager
    def expecting(self, model: str) -> Iterator[Mapping[str, Member]]:
        """Inside of this block a task will want this model as soon as it has its input: its files are fetched, and it
        is loaded where there is room without another one going. Yields the members of its input. Raises
        ModelNotFound."""
        resident = self._known(model)
        if resident.runner is None and not resident.is_expected:
            resident.is_expected = not resident.gone and not resident.is_refused(time.monotonic())
            self.stirred.set()
        resident.expecting += 1
        try:
            yield resident.offer.takes
        finally:
            resident.expecting -= 1
            if resident.is_expected and not resident.expecting:
                resident.is_expected = False
                self.stirred.set()

    async def wait(self, model: str, priority: Priority, log: TaskLog) -> Use:
        """Wait until a model is loaded, and use it; `log` gets what the load says. Raises ModelUnavailable where that
        fails, DeviceBroken."""
        waiter = self._known(model).wait(priority, log)
        self.stirred.set()
        try:
            return await waiter.granted
        except asyncio.CancelledError:
            if not waiter.granted.cancelled() and waiter.granted.exception() is None:
                self.give_back(waiter.granted.result())  # both came in one turn of the event loop
            self.stirred.set()
            raise

    def give_back(self, use: Use) -> None:
        """End a use."""
        resident = use.resident
        resident.uses -= 1
        if not resident.uses:
            resident.used_at = time.monotonic()
            if not resident.fixed:  # which stays, whoever else wants the room
                self.stirred.set()

    def using(self, use: Use) -> "Using":
        """Inside of this block the model stays loaded; at its end the use is given back."""
        return Using(self, use)

    # --- what there is ----------------------------------------------------------------------------------------

    def hold(self, runners: Iterable[Runner], described: Iterable[Model] = ()) -> None:
        """Hold models that were loaded at the start: they stay. `described` are what is published of them."""
        digests = {model.id: model.digest for model in described}
        for runner in runners:
            takes = cast("Mapping[str, Member]", runner.inputs)  # of a registered runner
            offer = Offer(id=runner.name, digest=digests.get(runner.name, ""), make=_never, takes=takes)
            resident = Resident(offer, runner=runner, fixed=True)
            resident.become("ready")
            self._all[runner.name] = resident
        self.changed()

    def offer(self, offer: Offer) -> None:
        """Load this version when a task wants it. It replaces one that was offered under the same id: what uses that
        ends with it, and what waits for it waits for the new one."""
        known = self._all.get(offer.id)
        if known is not None and known.fixed:
            return
        fresh = Resident(offer, is_wanted=offer.warm)
        if known is not None:
            fresh.waiters, known.waiters = known.waiters, []
            self._retire(known)
        self._all[offer.id] = fresh
        self.changed()

    def refuse(self, model: str, reason: str) -> None:
        """Show that a version is here and cannot be loaded. Tasks that wait for it end, those that use it go on."""
        refused = Resident(Offer(id=model, digest="", make=_never), try_at=math.inf)
        refused.become("failed", reason)
        self.drop(model)
        self._all[model] = refused
        self.changed()

    def withdraw(self, model: str, reason: str) -> None:
        """Load this version no more. As long as it stays loaded, tasks may use it; then they end with this reason, as
        do those of a version that was never here."""
        known = self._all.setdefault(model, Resident(Offer(id=model, digest="", make=_never)))
        if known.gone or known.fixed:
            return
        known.gone, known.is_wanted, known.try_at = reason, False, -math.inf  # its tasks are claimed, and end
        if known.runner is None:
            known.become("failed", reason)
        known.refuse(ModelUnavailable(f"{model}: {reason}"))
        self.changed()

    def drop(self, model: str) -> None:
        """Forget a version, and unload it when no task uses it."""
        known = self._all.pop(model, None)
        if known is not None:
            known.refuse(ModelUnavailable(f"{model}: {known.gone or 'it is not served here any more'}"))
            self._retire(known)
            self.changed()

    def keep_warm(self, model: str, *, warm: bool) -> None:
        """Load a version and keep it loaded, or let it be evicted again."""
        known = self._all.get(model)
        if known is not None and known.offer.warm != warm:
            known.offer = replace(known.offer, warm=warm)
            known.is_wanted = warm and known.runner is None and not known.gone
            self.stirred.set()

    def load(self, model: str) -> None:
        """Load a version though no task waits for it, also one that has failed."""
        known = self._all.get(model)
        if known is not None and known.runner is None and not known.gone and known.try_at < math.inf:
            known.is_wanted, known.is_leaving, known.try_at = True, False, -math.inf
            self.changed()

    def unload(self, model: str) -> None:
        """Unload a version as soon as no task uses it. Tasks that come meanwhile wait until it is loaded again."""
        known = self._all.get(model)
        if known is not None and not known.fixed:
            known.is_wanted = known.is_expected = False
            known.is_closed = known.runner is not None
            known.is_leaving = known.is_closed or known.is_loading
            self.stirred.set()

    # --- what is said of it -----------------------------------------------------------------------------------

    @property
    def models(self) -> tuple[str, ...]:
        """The sorted ids of the models whose tasks this worker claims: all but those that have just failed."""
        return self._models

    def residence(self) -> dict[str, Residence]:
        """Where each model is."""
        return {model: resident.residence() for model, resident in self._all.items()}

    def changed(self) -> None:
        """Tell that something has changed."""
        self._models = self._served()
        self.stirred.set()
        self.on_change()

    def look_at_clock(self) -> None:
        """Serve models again that have failed long enough ago."""
        if self._served() != self._models:
            self.changed()

    def _served(self) -> tuple[str, ...]:
        now = time.monotonic()
        return tuple(sorted(one.id for one in self._all.values() if not one.is_refused(now)))

    def _known(self, model: str) -> Resident:
        resident = self._all.get(model)
        if resident is None:
            raise ModelNotFound(f"this worker does not serve {model}")
        return resident

    def _retire(self, resident: Resident) -> None:
        resident.is_wanted = resident.is_expected = False
        if not resident.is_loading:
            resident.forget_making()
        if resident.runner is not None or resident.is_loading:
            resident.is_closed = resident.is_leaving = True
            self.retired.append(resident)


class Using(Struct, frozen=True, eq=False):
    """A model stays loaded inside of this block. A generator would take twice the calls, for each task."""

    residents: Residents
    use: Use

    def __enter__(self) -> Runner:
        return self.use.runner

    def __exit__(self, *_: object) -> None:
        self.residents.give_back(self.use)


async def _never() -> Runner:
    raise AssertionError("such a model is never loaded")
