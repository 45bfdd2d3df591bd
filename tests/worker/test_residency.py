"""Which models are loaded: on demand, within a budget, and never away from under a task."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from msgspec import Struct, field

from penstock.core.task import Priority
from penstock.errors import ConfigurationError, DeviceOutOfMemory, ModelNotFound, ModelUnavailable
from penstock.models.base import DeviceBroken
from penstock.worker.batcher.scheduler import DeviceScheduler
from penstock.worker.devices import cpu
from penstock.worker.log_capture import capturing
from penstock.worker.residency.freed import UNSEEN_BYTES, MemoryInUse, memory_of
from penstock.worker.residency.loads import ModelLoads
from penstock.worker.residency.resident import Offer, Use
from penstock.worker.residency.residents import Residents
from penstock.worker.task_log import TaskLog
from penstock.worker.threads import Threads
from tests.support.tiny_models import Adding, adding
from tests.support.workers import until

SIZE = 10
"""What each model is said to take."""


class Shelf(Struct, eq=False):
    """The models of a test worker, and the runners that were made of each."""

    residents: Residents
    loads: ModelLoads
    device: DeviceScheduler
    made: dict[str, list[Adding]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    faults: dict[str, list[Exception]] = field(default_factory=dict)
    log: TaskLog = field(default_factory=TaskLog)

    def offer(self, name: str, number: float = 0.0, **options: float | bool) -> None:
        """Offers a model that adds this number."""

        async def make() -> Adding:
            runner = Adding(name, adding(number))
            if name in self.gated:
                runner.gate.clear()
            if self.faults.get(name):
                runner.fault = self.faults[name].pop(0)
            self.made.setdefault(name, []).append(runner)
            return runner

        asked = {"memory_bytes": SIZE} | options
        self.residents.offer(Offer(id=name, digest=str(number), make=make, **asked))  # type: ignore[arg-type]

    async def use(self, name: str, priority: Priority = Priority.NORMAL) -> Use:
        """Uses a model as a task does."""
        return self.residents.take(name) or await self.residents.wait(name, priority, self.log)

    async def answer(self, name: str) -> float:
        """Runs a task to its end, and returns the number that came out."""
        with self.residents.using(await self.use(name)) as runner:
            work = runner.prepare(b"", runner.params())
            done = await self.device.run(runner, work, priority=Priority.NORMAL, on_progress=lambda *_: None)
            return float(done.work.outputs[0][0])

    def states(self) -> dict[str, str]:
        """Returns where each model is."""
        return {name: one.state for name, one in self.residents.residence().items()}


@asynccontextmanager
async def shelf(
    places: int = 2, *, limit_s: float = 60.0, memory: MemoryInUse | None = None, guard: int = 0
) -> AsyncIterator[Shelf]:
    """A device with room for so many models."""
    device = cpu(1)
    with Threads(1, "tiles") as pool:
        scheduler = DeviceScheduler(device, pool)
        await scheduler.start([])
        residents = Residents()
        seen = memory or memory_of(device)
        loads = ModelLoads(residents, scheduler, seen, budget_bytes=places * SIZE, limit_s=limit_s, guard=guard)
        made = Shelf(residents, loads, scheduler)
        serving = asyncio.create_task(loads.serve())
        try:
            yield made
        finally:
            for runner in [one for runners in made.made.values() for one in runners]:
                runner.gate.set()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
            await scheduler.close()


async def test_a_model_is_loaded_when_a_task_asks_for_it_and_not_before() -> None:
    async with shelf() as models:
        models.offer("one", 1.0)
        models.offer("two", 2.0)
        await asyncio.sleep(0.02)
        before = models.states()
        answers = [await models.answer("one"), await models.answer("one")]

        assert before == {"one": "cold", "two": "cold"}
        assert answers == [1.0, 1.0]
        assert models.states() == {"one": "ready", "two": "cold"}
        assert len(models.made["one"]) == 1


async def test_what_a_load_says_and_raises_is_in_the_logs_of_the_tasks_that_waited_for_it() -> None:
    with capturing("INFO"):
        async with shelf() as models:
            models.offer("one", 1.0)
            models.offer("bad")
            models.faults["bad"] = [LookupError("the text of the exception")]
            await models.answer("one")
            once = models.log.text(1).decode()
            await models.answer("one")
            with pytest.raises(ModelUnavailable):
                await models.use("bad")

    assert "load_model: reading weights" in once
    text = models.log.text(1).decode()
    assert text.count("reading weights") == 2, "one that is loaded is not loaded again"
    assert "LookupError: the text of the exception" in text


async def test_two_tasks_that_want_the_same_model_share_one_load() -> None:
    async with shelf() as models:
        models.offer("one", 1.0)
        answers = await asyncio.gather(*(models.answer("one") for _ in range(5)))

        assert answers == [1.0] * 5
        assert len(models.made["one"]) == 1


async def test_the_least_recently_used_model_makes_room() -> None:
    async with shelf(places=2) as models:
        for number, name in enumerate(("one", "two", "three"), 1):
            models.offer(name, number)
        for name in ("one", "two", "one", "three"):
            await models.answer(name)

        assert models.states() == {"one": "ready", "two": "evicted", "three": "ready"}
        assert await models.answer("two") == 2.0
        assert models.states() == {"one": "evicted", "two": "ready", "three": "ready"}


async def test_a_model_that_a_task_uses_is_not_evicted() -> None:
    async with shelf(places=1) as models:
        models.offer("one")
        models.offer("two")
        use = await models.use("one")
        waiting = asyncio.create_task(models.answer("two"))
        await asyncio.sleep(0.05)
        state, runner = models.states()["two"], models.made["one"][0]
        was_unloaded = runner.unloaded_at
        models.residents.give_back(use)
        await waiting

        assert (state, was_unloaded) == ("loading", 0.0)
        assert models.states() == {"one": "evicted", "two": "ready"}


async def test_tasks_of_more_models_than_fit_all_end() -> None:
    async with shelf(places=2) as models:
        for number in range(6):
            models.offer(f"m{number}", number)
        names = [f"m{number % 6}" for number in range(60)]
        async with asyncio.timeout(60):
            answers = await asyncio.gather(*(models.answer(name) for name in names))

        assert answers == [float(number % 6) for number in range(60)]
        assert sum(state == "ready" for state in models.states().values()) == 2


async def test_a_model_in_steady_use_makes_room_after_its_turn() -> None:
    async with shelf(places=1) as models:
        models.offer("busy")
        models.offer("rare", 7.0)
        is_over = False

        async def keep_busy(pause_s: float) -> None:
            await asyncio.sleep(pause_s)
            while not is_over:
                with models.residents.using(await models.use("busy")):
                    await asyncio.sleep(0.03)

        holders = [asyncio.create_task(keep_busy(0.01 * n)) for n in range(3)]
        await until(lambda: models.states()["busy"] == "ready")
        async with asyncio.timeout(60):
            answer = await models.answer("rare")
        is_over = True
        await asyncio.gather(*holders)

        assert answer == 7.0


async def test_a_warm_model_is_loaded_at_once_and_stays() -> None:
    async with shelf(places=1) as models:
        models.offer("warm", 1.0, warm=True, keep_alive_s=0.0)
        await until(lambda: models.states()["warm"] == "ready")
        models.offer("other", 2.0)

        assert await models.answer("other") == 2.0
        assert models.states() == {"warm": "ready", "other": "ready"}, "nothing that may go is there"


async def test_models_that_were_loaded_at_the_start_stay_whatever_is_asked() -> None:
    async with shelf(places=1) as models:
        coded = Adding("coded", adding(3.0))
        coded.load_model(models.device.device)
        models.residents.hold([coded])
        models.offer("other")
        models.residents.unload("coded")
        await models.answer("other")

        assert await models.answer("coded") == 3.0
        assert not coded.unloaded_at


async def test_an_idle_model_is_unloaded_after_its_time() -> None:
    async with shelf() as models:
        models.offer("brief", keep_alive_s=0.05)
        models.offer("long", keep_alive_s=60.0)
        await models.answer("brief")
        await models.answer("long")
        await until(lambda: models.states() == {"brief": "evicted", "long": "ready"})
        await until(lambda: models.made["brief"][0].session is None)


async def test_a_task_that_is_canceled_while_its_model_is_loaded_leaves_nothing_behind() -> None:
    async with shelf(places=1) as models:
        models.gated.add("slow")
        models.offer("slow")
        models.offer("next", 5.0)
        waiting = asyncio.create_task(models.answer("slow"))
        await until(lambda: "slow" in models.made)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        models.made["slow"][0].gate.set()

        assert await models.answer("next") == 5.0
        assert models.states() == {"slow": "evicted", "next": "ready"}


async def test_a_task_that_is_canceled_just_when_its_model_is_ready_gives_it_back() -> None:
    async with shelf(places=1) as models:
        models.gated.add("one")
        models.offer("one")
        models.offer("two", 2.0)
        waiting = asyncio.create_task(models.residents.wait("one", Priority.NORMAL, TaskLog()))
        await until(lambda: "one" in models.made)
        resident = next(resident for resident in models.residents if resident.id == "one")
        resident.serve()
        waiting.cancel()  # before the task goes on with what it was given
        await asyncio.gather(waiting, return_exceptions=True)
        models.made["one"][0].gate.set()

        assert waiting.cancelled()
        assert resident.uses == 0
        assert await models.answer("two") == 2.0


async def test_a_load_that_fails_ends_the_tasks_that_wait_and_no_other() -> None:
    async with shelf() as models:
        models.faults["bad"] = [ConfigurationError("model.onnx is damaged")]
        models.offer("bad")
        models.offer("good", 1.0)
        failed = await asyncio.gather(*(models.answer("bad") for _ in range(3)), return_exceptions=True)

        assert [type(error) for error in failed] == [ModelUnavailable] * 3
        assert str(failed[0]) == "bad: model.onnx is damaged"
        assert await models.answer("good") == 1.0
        assert models.residents.models == ("good",), "its tasks are left to other workers"
        with pytest.raises(ModelUnavailable, match=r"model\.onnx is damaged"):
            models.residents.take("bad")


async def test_no_model_makes_room_for_one_whose_files_cannot_be_had() -> None:
    async def make() -> Adding:
        raise ConfigurationError("model.onnx is damaged in the storage")

    async with shelf(places=1) as models:
        models.offer("good", 1.0)
        models.residents.offer(Offer(id="bad", digest="", make=make, memory_bytes=SIZE))
        await models.answer("good")
        with pytest.raises(ModelUnavailable, match="damaged in the storage"):
            await models.answer("bad")

        assert models.states() == {"good": "ready", "bad": "failed"}


async def test_tasks_of_a_model_that_has_failed_are_claimed_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("penstock.worker.residency.resident.FAILED_FOR_S", 0.1)
    async with shelf() as models:
        models.faults["bad"] = [ConfigurationError("not yet")]
        models.offer("bad", 4.0)
        with pytest.raises(ModelUnavailable):
            await models.answer("bad")
        before = models.residents.models
        await until(lambda: models.residents.models == ("bad",))

        assert before == ()
        assert await models.answer("bad") == 4.0


async def test_a_version_that_is_dropped_while_its_runner_is_made_holds_up_no_other() -> None:
    async with shelf() as models:
        never = asyncio.Event()

        async def make() -> Adding:
            await never.wait()
            raise AssertionError

        models.residents.offer(Offer(id="slow", digest="", make=make))
        waiting = asyncio.create_task(models.answer("slow"))
        await until(lambda: models.states().get("slow") == "loading")
        models.residents.drop("slow")
        models.offer("other", 3.0)

        assert await models.answer("other") == 3.0
        assert models.residents.retired == []
        with pytest.raises(ModelUnavailable):
            await waiting


async def test_a_version_that_is_replaced_while_it_is_loaded_is_unloaded_again() -> None:
    async with shelf() as models:
        models.gated.add("one")
        models.offer("one", 1.0)
        waiting = asyncio.create_task(models.answer("one"))
        await until(lambda: "one" in models.made)
        models.gated.clear()
        models.offer("one", 2.0)
        models.made["one"][0].gate.set()

        assert await waiting == 2.0
        await until(lambda: models.made["one"][0].unloaded_at > 0)
        assert models.residents.retired == []


async def test_a_model_that_has_failed_is_loaded_when_an_operator_says_so() -> None:
    async with shelf() as models:
        models.faults["bad"] = [ConfigurationError("not yet")]
        models.offer("bad", 4.0)
        with pytest.raises(ModelUnavailable):
            await models.answer("bad")
        models.residents.load("bad")
        await until(lambda: models.states()["bad"] == "ready")

        assert await models.answer("bad") == 4.0
        assert models.residents.models == ("bad",)


async def test_an_error_of_a_models_own_code_names_its_class_alone() -> None:
    async with shelf() as models:
        models.faults["bad"] = [ValueError("a secret")]
        models.offer("bad")
        with pytest.raises(ModelUnavailable) as met:
            await models.answer("bad")

        assert str(met.value) == "bad: ValueError was raised when it was loaded"


async def test_the_reason_of_a_failed_load_is_one_line_of_bounded_length_that_names_the_model_once() -> None:
    async with shelf() as models:
        models.faults["bad"] = [ConfigurationError("bad: the graph takes\n" + "n" * 10**6)]
        models.offer("bad")
        with pytest.raises(ModelUnavailable) as met:
            await models.answer("bad")

        reason = models.residents.residence()["bad"].reason
        assert reason.startswith("the graph takes nnn")
        assert len(reason) < 600
        assert str(met.value) == f"bad: {reason}"


async def test_a_load_that_hangs_ends_its_tasks_and_others_are_loaded() -> None:
    async with shelf(places=3, limit_s=0.2) as models:
        models.gated.add("hangs")
        models.offer("hangs")
        models.offer("good", 1.0)
        with pytest.raises(ModelUnavailable, match=r"not loaded within 0\.2 s"):
            await models.answer("hangs")

        assert await models.answer("good") == 1.0


async def test_the_memory_of_a_load_that_took_too_long_is_used_again_when_it_has_ended() -> None:
    async with shelf(places=1, limit_s=0.2) as models:
        models.gated.add("hangs")
        models.offer("hangs")
        models.offer("one", 1.0)
        with pytest.raises(ModelUnavailable):
            await models.answer("hangs")
        models.made["hangs"][0].gate.set()
        await until(lambda: models.made["hangs"][0].unloaded_at > 0)
        with models.residents.expecting("one"):
            await until(lambda: models.states()["one"] == "ready")  # only into room that is free


async def test_a_worker_stops_while_a_load_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("penstock.worker.batcher.scheduler.LOAD_ENDS_S", 0.1)
    async with shelf() as models:
        models.gated.add("slow")
        models.offer("slow")
        waiting = asyncio.create_task(models.answer("slow"))
        await until(lambda: "slow" in models.made)
        async with asyncio.timeout(60):
            await models.device.close()
        waiting.cancel()

        assert not models.made["slow"][0].gate.is_set()


async def test_a_model_that_waited_for_room_is_cold_again_when_nobody_wants_it() -> None:
    async with shelf(places=1) as models:
        models.offer("one")
        models.offer("two")
        use = await models.use("one")
        waiting = asyncio.create_task(models.answer("two"))
        await until(lambda: models.states()["two"] == "loading")
        waiting.cancel()
        await until(lambda: models.states()["two"] == "cold")
        models.residents.give_back(use)
        models.residents.unload("one")
        await until(lambda: models.states() == {"one": "evicted", "two": "cold"})


async def test_a_model_that_is_unloaded_while_it_is_loaded_goes_after_the_tasks_that_waited() -> None:
    async with shelf() as models:
        models.gated.add("one")
        models.offer("one", 1.0)
        waiting = asyncio.create_task(models.answer("one"))
        await until(lambda: "one" in models.made)
        models.residents.unload("one")
        models.made["one"][0].gate.set()

        assert await waiting == 1.0
        await until(lambda: models.states()["one"] == "evicted")
        models.gated.clear()
        assert await models.answer("one") == 1.0
        assert models.states()["one"] == "ready"


async def test_where_the_device_has_no_memory_another_model_goes_and_the_load_is_tried_once_more() -> None:
    async with shelf(places=3) as models:
        models.faults["large"] = [DeviceOutOfMemory("the device could not hold it")]
        models.offer("idle")
        models.offer("large", 9.0)
        await models.answer("idle")

        assert await models.answer("large") == 9.0
        assert models.states() == {"idle": "evicted", "large": "ready"}
        assert len(models.made["large"]) == 2


async def test_out_of_memory_twice_ends_the_task_and_not_the_worker() -> None:
    async with shelf(places=3) as models:
        models.faults["large"] = [DeviceOutOfMemory("too large"), DeviceOutOfMemory("too large")]
        models.offer("idle", 1.0)
        models.offer("large")
        await models.answer("idle")
        with pytest.raises(ModelUnavailable, match="too large"):
            await models.answer("large")

        assert await models.answer("idle") == 1.0


async def test_a_device_that_is_lost_at_a_load_ends_the_worker_with_the_task_as_its_cause() -> None:
    async with shelf() as models:
        models.faults["bad"] = [DeviceBroken("CUDA failure 700")]
        models.offer("bad")
        lost: list[bool] = []
        models.loads.lost = lambda: lost.append(True)
        with pytest.raises(DeviceBroken) as met:
            await models.answer("bad")

        assert met.value.guilty
        assert models.device.broken is not None
        assert lost == [True]


async def test_what_uses_a_version_ends_with_it_though_it_was_replaced() -> None:
    async with shelf() as models:
        models.offer("one", 1.0)
        use = await models.use("one")
        models.offer("one", 2.0)
        answer = await models.answer("one")
        still_loaded = use.runner.session is not None  # type: ignore[attr-defined]
        models.residents.give_back(use)
        await until(lambda: models.made["one"][0].session is None)

        assert answer == 2.0
        assert still_loaded


async def test_a_version_whose_files_are_gone_serves_as_long_as_it_is_loaded() -> None:
    async with shelf() as models:
        models.offer("loaded", 1.0)
        models.offer("cold")
        await models.answer("loaded")
        models.residents.withdraw("loaded", "its files were removed")
        models.residents.withdraw("cold", "its files were removed")

        assert await models.answer("loaded") == 1.0
        with pytest.raises(ModelUnavailable, match="cold: its files were removed"):
            await models.answer("cold")
        models.residents.drop("loaded")
        await until(lambda: models.made["loaded"][0].session is None)
        with pytest.raises(ModelNotFound):
            models.residents.take("loaded")


async def test_an_operator_unloads_a_model_when_its_last_task_has_ended() -> None:
    async with shelf() as models:
        models.offer("one", 1.0)
        use = await models.use("one")
        models.residents.unload("one")
        later = asyncio.create_task(models.answer("one"))
        await asyncio.sleep(0.02)
        state = models.states()["one"]
        models.residents.give_back(use)

        assert state == "ready"
        assert await later == 1.0, "it waits until the model is loaded again"
        assert len(models.made["one"]) == 2


async def test_other_models_run_while_one_is_loaded() -> None:
    async with shelf() as models:
        models.gated.add("slow")
        models.offer("slow", 1.0)
        models.offer("fast", 2.0)
        await models.answer("fast")
        waiting = asyncio.create_task(models.answer("slow"))
        await until(lambda: "slow" in models.made)
        answers = [await models.answer("fast") for _ in range(3)]
        still_loading = models.states()["slow"]
        models.made["slow"][0].gate.set()

        assert answers == [2.0] * 3
        assert still_loading == "loading"
        assert await waiting == 1.0


async def test_the_model_of_the_highest_priority_is_loaded_first() -> None:
    async with shelf(places=1) as models:
        models.gated.add("first")
        order: list[str] = []
        for name in ("first", "low", "high"):
            models.offer(name)

        async def run(name: str, priority: Priority) -> None:
            models.residents.give_back(await models.use(name, priority))
            order.append(name)

        first = asyncio.create_task(run("first", Priority.NORMAL))
        await until(lambda: "first" in models.made)
        others = [asyncio.create_task(run("low", Priority.LOW)), asyncio.create_task(run("high", Priority.HIGH))]
        await asyncio.sleep(0.02)
        models.made["first"][0].gate.set()
        await asyncio.gather(first, *others)

        assert order == ["first", "high", "low"]


async def test_the_model_of_a_low_priority_is_loaded_in_the_end_though_higher_ones_keep_coming() -> None:
    async with shelf(places=1, guard=3) as models:
        for name in ("low", *(f"high{number}" for number in range(4))):
            models.offer(name)
        is_over = False

        async def keep_asking(name: str) -> None:
            while not is_over:
                models.residents.give_back(await models.use(name, Priority.HIGH))
                await asyncio.sleep(0.001)

        asking = [asyncio.create_task(keep_asking(f"high{number}")) for number in range(4)]
        await until(lambda: "high3" in models.made)
        async with asyncio.timeout(60):
            models.residents.give_back(await models.use("low", Priority.LOW))
        is_over = True
        await asyncio.gather(*asking)

        assert len(models.made["low"]) == 1


async def test_an_expected_model_is_loaded_into_free_room_and_evicts_nothing() -> None:
    async with shelf(places=2) as models:
        for name in ("one", "two", "three"):
            models.offer(name)
        await models.answer("one")
        with models.residents.expecting("two"):
            await until(lambda: models.states()["two"] == "ready")
        with models.residents.expecting("three"):
            await asyncio.sleep(0.05)
            states = models.states()
        models.residents.unload("one")
        await until(lambda: models.states()["one"] == "evicted")
        await until(lambda: models.states()["three"] == "cold")

        assert states == {"one": "ready", "two": "ready", "three": "loading"}
        assert [len(models.made[name]) for name in ("one", "two", "three")] == [1, 1, 1]


async def test_the_next_load_waits_until_freed_memory_is_seen() -> None:
    used = [100 * UNSEEN_BYTES]
    memory = MemoryInUse(lambda: used[0])
    seen = asyncio.create_task(memory.until_freed("one", before=used[0], size=2 * UNSEEN_BYTES))
    await asyncio.sleep(0.05)
    was_done = seen.done()
    used[0] -= 2 * UNSEEN_BYTES

    assert not was_done
    assert await seen


async def test_the_memory_of_an_unloaded_model_is_free_and_seen() -> None:
    runner = Adding("large", adding(1.0, weights=20_000_000))
    memory = memory_of(cpu(1))
    before = memory.measured()
    runner.load_model(cpu(1))
    loaded = memory.measured()
    runner.unload()

    assert loaded - before > 60_000_000
    assert await memory.until_freed("large", before=loaded, size=80_000_000)
