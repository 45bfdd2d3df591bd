"""Do models come and go under load without losing, failing or mixing a task, and without keeping memory?

    python -m tools.model_churn [--models 20] [--fit 5] [--mb 20] [--tasks 2000] [--switches 100] [--loads 200]

Starts a server with as many models of `--mb` megabytes, of which `--fit` fit into the memory for models, each of which
answers a number of its own. Then:

- random: tasks of random models through 8 clients;
- switches: one task at a time, each of a model that is not loaded. What the task waits beyond the load that the worker
  logs is the cost of the switch: to evict, to see the memory free, to begin;
- defaults: the default version of a model is switched under load, and each answer must be that of the version that the
  task says it ran on;
- memory: that of the worker after 20 loads, and after all.

A task whose answer is not the number of its model counts as mixed. The exit status is 1 if a bar does not hold.
"""

import argparse
import asyncio
import json
import random
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx
from msgspec import Struct
from rich.console import Console
from rich.table import Table

from tests.support.drive import data_uri, image
from tests.support.processes import System, up
from tests.support.tiny_models import add_model

CLIENTS = 8
SWITCH_MS = 100.0
MEMORY = 1.05
WARM_LOADS = 20
"""Loads after which caches and pools of the process have their size."""


class Sample(Struct, frozen=True):
    """A task that has ended: the id that it ran on, its number, what it waited for its model, and its error."""

    model: str
    number: float | None
    load_ms: float
    total_ms: float
    error: str = ""


class Churn:
    """A running server with models `m<n>@1`, which say their `n`, and `face`, whose versions say theirs."""

    def __init__(self, system: System, client: httpx.AsyncClient, data: Path, models: int) -> None:
        self._client = client
        self._data = data
        self._system = system
        self.models = models
        self.samples: list[Sample] = []

    async def run(self, model: str) -> Sample:
        """Runs a task to its end."""
        body = {"model": model, "input": {"image_url": data_uri(image())}, "reuse": False}
        answer = await self._client.post("/v1/tasks", json=body, headers={"prefer": "wait=60"})
        while answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            await asyncio.sleep(0.1)
            answer = await self._client.post("/v1/tasks", json=body, headers={"prefer": "wait=60"})
        view = answer.json()
        while view.get("status") in ("PENDING", "RUNNING"):
            await asyncio.sleep(0.02)
            view = (await self._client.get(f"/v1/tasks/{view['task_id']}")).json()
        sample = _sample(view, model)
        self.samples.append(sample)
        return sample

    async def random(self, tasks: int, rng: random.Random) -> None:
        """Runs so many tasks of random models, a few at a time."""
        models = iter([f"m{rng.randrange(self.models)}" for _ in range(tasks)])

        async def follow() -> None:
            for model in models:
                await self.run(model)

        await asyncio.gather(*(follow() for _ in range(CLIENTS)))

    async def switch(self, count: int) -> list[float]:
        """Runs so many tasks, each of a model that is not loaded. Returns what each waited beyond its load, in ms."""
        beyond = []
        for number in range(count):
            before = self.loads()
            sample = await self.run(f"m{number % self.models}")
            loaded = self.loads()[len(before) :]
            if sample.load_ms and loaded:
                beyond.append(sample.load_ms - 1000 * sum(loaded))
        return beyond

    async def defaults(self, switches: int, versions: Sequence[str], pause_s: float = 0.05) -> None:
        """Switches the default version under load."""
        is_over = False

        async def follow() -> None:
            while not is_over:
                await self.run("face")

        followers = [asyncio.create_task(follow()) for _ in range(CLIENTS)]
        for number in range(switches):
            body = {"version": versions[number % len(versions)]}
            (await self._client.put("/v1/models/face/default", json=body)).raise_for_status()
            await asyncio.sleep(pause_s)
        is_over = True
        await asyncio.gather(*followers)

    async def card(self, model: str) -> dict[str, Any]:
        """What the catalogue says of a model."""
        card: dict[str, Any] = (await self._client.get(f"/v1/models/{model}")).raise_for_status().json()
        return card

    async def tell(self, model: str, act: str) -> None:
        """Tells the workers to `load` or `unload` a model."""
        (await self._client.post(f"/v1/models/{model}/{act}")).raise_for_status()

    def loads(self) -> list[float]:
        """The seconds of each load on demand so far, as the worker has logged them."""
        lines = (self._data / "up.log").read_text().splitlines()
        rows = [json.loads(line) for line in lines if '"model loaded"' in line]
        return [row["seconds"] for row in rows if "@" in row["model"]]

    def unseen(self) -> int:
        """How often the worker went on without seeing the memory of an unloaded model free."""
        return (self._data / "up.log").read_text().count("its memory is not seen to be free")

    def worker_bytes(self) -> int:
        """The resident memory of the worker process."""
        pid = self._system.process.child("worker-process")
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS"))

    def failed(self) -> list[Sample]:
        """The tasks that have no answer."""
        return [sample for sample in self.samples if sample.number is None]

    def mixed(self) -> list[Sample]:
        """The tasks whose answer is that of another model than theirs."""
        return [one for one in self.samples if one.number is not None and one.number != number_of(one.model)]


def number_of(model: str) -> float:
    """The number that a model says."""
    name, _, version = model.partition("@")
    return float(version) if name == "face" else float(name[1:])


def _sample(view: dict[str, Any], asked: str) -> Sample:
    name, timing = view.get("model", asked), view.get("timing", {})
    model = name if "@" in name else f"{name}@{view.get('model_version')}"
    times = {"load_ms": timing.get("load_ms", 0.0), "total_ms": timing.get("total_ms", 0.0)}
    if view.get("status") != "SUCCESS":
        return Sample(model=model, number=None, error=json.dumps(view.get("error") or view), **times)
    return Sample(model=model, number=float(view["result"]["data"]["outputs"]["said"]["values"][0][0]), **times)


@contextmanager
def serving(directory: Path, *, models: int, fit: int, size: int) -> Iterator[System]:
    """Runs a server with so many models of so many bytes, of which `fit` fit, and two versions of `face`."""
    numbers = {f"m{number}@1": float(number) for number in range(models)} | {"face@1": 1.0, "face@2": 2.0}
    for model, number in numbers.items():
        add_model(directory / "models", model, number, weights=size // 4, memory_bytes=10**6)
    environ: dict[str, Any] = {
        "PENSTOCK_WORKER_MODEL_MEMORY_BYTES": str(fit * 10**6),
        "GPU_IDS": "cpu",
        "RATE_LIMIT_PER_MINUTE": "0",
    }
    with up(directory, **environ) as system:
        yield system


@asynccontextmanager
async def churning(system: System, directory: Path, models: int) -> AsyncIterator[Churn]:
    """Opens a client of such a server."""
    headers = {"x-api-key": system.api_key}
    async with httpx.AsyncClient(base_url=system.url, headers=headers, timeout=90, trust_env=False) as client:
        yield Churn(system, client, directory, models)


class Measured(Struct, frozen=True):
    """What was measured: the loads in seconds, what switches took beyond them in ms, and the memory in shares of what
    it was."""

    loads: list[float]
    beyond: list[float]
    unseen: int
    memory: float


async def measure(churn: Churn, options: argparse.Namespace) -> Measured:
    """Runs all parts."""
    await churn.random(options.tasks, random.Random(options.seed))
    await churn.switch(max(0, WARM_LOADS - len(churn.loads())))
    before, loads = churn.worker_bytes(), len(churn.loads())
    beyond = sorted(await churn.switch(max(options.loads - loads, options.models * 2)))
    await churn.defaults(options.switches, ("1", "2"))
    return Measured(churn.loads(), beyond, churn.unseen(), churn.worker_bytes() / before)


async def report(options: argparse.Namespace, system: System, directory: Path) -> bool:
    """Prints the table. Returns whether all bars hold."""
    async with churning(system, directory, options.models) as churn:
        found = await measure(churn, options)
    waited = sorted(sample.load_ms for sample in churn.samples[: options.tasks] if sample.load_ms)
    rows = (
        ("tasks", str(len(churn.samples)), "", True),
        ("failed", str(len(churn.failed())), "0", not churn.failed()),
        ("mixed", str(len(churn.mixed())), "0", not churn.mixed()),
        ("loads", str(len(found.loads)), "", True),
        ("a load, ms", _spread([1000 * seconds for seconds in sorted(found.loads)]), "", True),
        ("wait for a model under load, ms", _spread(waited), "", True),
        ("a switch beyond its load, ms", _spread(found.beyond), f"{SWITCH_MS:g}", found.beyond[-1] <= SWITCH_MS),
        ("unloads whose memory was not seen to be free", str(found.unseen), "", True),
        ("memory after all loads", f"{found.memory:.3f}", f"{MEMORY:g}", found.memory <= MEMORY),
    )
    table = Table("", "measured (p50 / p90 / p99 / most)", "bar", "", box=None)
    for name, measured, bar, holds in rows:
        table.add_row(name, measured, bar, "" if holds else "missed")
    Console(width=120).print(table)
    for sample in churn.failed()[:3]:
        print(sample)
    return all(holds for *_, holds in rows)


def _spread(values: Sequence[float]) -> str:
    if len(values) < 2:
        return " ".join(f"{value:.1f}" for value in values)
    cuts = quantiles(values, n=100, method="inclusive")
    return " / ".join(f"{value:.1f}" for value in (cuts[49], cuts[89], cuts[98], values[-1]))


def main() -> None:
    """Reads the options and measures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("models", 20), ("fit", 5), ("tasks", 2000), ("switches", 100), ("loads", 200), ("seed", 7)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--mb", type=float, default=20.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="penstock-churn-") as directory:
        size = int(options.mb * 1e6)
        with serving(Path(directory), models=options.models, fit=options.fit, size=size) as system:
            holds = asyncio.run(report(options, system, Path(directory)))
    sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
