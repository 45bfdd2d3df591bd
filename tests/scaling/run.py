"""One run: a Redis, an API, and classes of workers that are scaled by a rule while tasks come, until each class has
gone to zero often enough."""

import asyncio
import random
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from msgspec import Struct, field
from prometheus_client.parser import text_string_to_metric_families

from tests.chaos.parts import READY_WITHIN_S, Api, RedisServer
from tests.kube.chart import Object, objects_in, rendered
from tests.scaling.load import Load
from tests.scaling.model import JOURNAL, MODELS, begun
from tests.scaling.pods import Deployment
from tests.scaling.rule import Query, Rule, Samples, Scaler

API_KEY = "0123456789abcdef0123456789abcdef"
SCRAPE_S = 1.0
"""In place of the chart's 15 s; KEDA asks every second in place of 15, and the cooldown is 8 s in place of 300. The
gauge itself is renewed every 5 s, as everywhere."""

WAITING_ONLY = Query("penstock_queue_depth", ".*")
"""What scalers of queues usually go by."""


class Variant(Struct, frozen=True, kw_only=True):
    """What differs from the chart: the number by which pods are scaled, and how long a worker may finish its tasks."""

    name: str
    waiting_only: bool = False
    drain_s: int | None = None


VARIANTS = (
    Variant(name="the chart"),
    Variant(name="waiting only, short drain", waiting_only=True, drain_s=1),
    Variant(name="waiting only, the chart's drain", waiting_only=True),
    Variant(name="the chart's rule, short drain", drain_s=1),
)
"""The first is what is promised; the second scales on a queue with the usual grace, and must be seen to fail."""


class Report(Struct, kw_only=True):
    """What came of a run."""

    variant: str
    tasks: int = 0
    to_zero: int = 0
    pods: int = 0
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    interrupted: int = 0
    twice: int = 0
    killed: int = 0
    given_back: int = 0
    """Attempts that were handed back before the device had begun them: they cost nothing."""


def manifests(count: int) -> list[Object]:
    """Returns what the chart makes of so many classes, one for each model."""
    scaling = {"enabled": True, "maxReplicas": 2, "backlogSeconds": 8, "pollSeconds": 1}
    shared = {
        "modules": ["tests.scaling.model"],
        "taskSeconds": 15,
        "startSeconds": 60,
        "scaling": scaling | {"cooldownSeconds": 8, "firstCooldownSeconds": 10},
    }
    values: dict[str, Any] = {
        "redis": {"url": "redis://here", "hasPassword": False},
        "storage": {"hasKeys": False},
        "secrets": {"existing": "penstock"},
        "prometheus": {"address": "http://prometheus:9090"},
        "workerDefaults": shared,
        "workers": {"cpu": None} | {model: {"models": [model]} for model in MODELS[:count]},
    }
    return objects_in(rendered(values))


class Fleet:
    """The servers of a run, and a class of workers for each model."""

    def __init__(self, variant: Variant, classes: int, directory: Path, seed: int) -> None:
        self.variant = variant
        self.models = MODELS[:classes]
        self.journal = directory / "journal"
        self._directory = directory
        self._seed = seed
        self._redis = RedisServer(directory)
        shared = {
            "REDIS_URL": self._redis.url,
            "USE_LOCAL_STORAGE": "true",
            "PENSTOCK_STORAGE_DIRECTORY": str(directory / "objects"),
            "PENSTOCK_TELEMETRY_METRICS_HOST": "127.0.0.1",
        }
        served = {"API_KEYS": f"me:{API_KEY}", "RATE_LIMIT_PER_MINUTE": "0", "PENSTOCK_API_METRICS": "on"}
        self.api = Api("api", shared | served, directory)
        place = {
            "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
            "PENSTOCK_WORKER_SPOOL_DIRECTORY": str(directory / "spool"),
            "PENSTOCK_WORKER_CACHE_DIR": str(directory / "cache"),
            JOURNAL: str(self.journal),
        }
        if variant.drain_s is not None:
            place["PENSTOCK_WORKER_DRAIN_S"] = str(variant.drain_s)
        made = manifests(classes)
        self.deployments = {
            one["metadata"]["labels"]["penstock/class"]: Deployment(one, shared | place, directory)
            for one in made
            if one["kind"] == "Deployment" and "worker" in one["metadata"]["name"]
        }
        self._rules = {
            one["metadata"]["labels"]["penstock/class"]: Rule.of(one) for one in made if one["kind"] == "ScaledObject"
        }
        self._samples: Samples = {}

    async def run(self, times: int, within_s: float) -> Report:
        """Returns when each class has gone to zero so many times."""
        started = time.monotonic()
        (self._directory / "spool").mkdir()
        self._redis.start()
        await self._until(self._redis.answers)
        self.api.start()
        for deployment in self.deployments.values():
            deployment.scale(1)  # what a Deployment without a number has
        headers = {"Authorization": f"Bearer {API_KEY}"}
        async with httpx.AsyncClient(base_url=self.api.url, headers=headers, timeout=60, trust_env=False) as client:
            await self._until_published(client)
            beside = [asyncio.create_task(self._scrape(client))]
            beside += [asyncio.create_task(self._scale(model)) for model in self.models]
            loads = [
                Load(client, self.deployments[model], model, random.Random(f"{self._seed} {model}"))
                for model in self.models
            ]
            try:
                async with asyncio.timeout(within_s):
                    views = await asyncio.gather(*(load.run(times) for load in loads))
            finally:
                for task in beside:
                    task.cancel()
                outcomes = await asyncio.gather(*beside, return_exceptions=True)
        at_zero = sum(deployment.times_at_zero for deployment in self.deployments.values())
        for deployment in self.deployments.values():
            await deployment.close()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
        report = self._report([view for of_class in views for view in of_class])
        report.to_zero, report.seconds = at_zero, time.monotonic() - started
        return report

    def kill(self) -> None:
        """Leaves no process behind."""
        for part in (*self.deployments.values(), self.api, self._redis):
            part.kill()

    def _report(self, views: list[dict[str, Any]]) -> Report:
        found = begun(self.journal)
        report = Report(variant=self.variant.name, tasks=len(views))
        report.pods = sum(deployment.started for deployment in self.deployments.values())
        report.killed = sum(pod.was_killed for deployment in self.deployments.values() for pod in deployment.ended)
        for view in views:
            attempts = found.get(view["tag"], set())
            outcomes = [attempt["outcome"] for attempt in view["attempts"]]
            report.states[view["status"] if view["error"] is None else view["error"]["code"]] += 1
            report.outcomes.update(outcomes)
            report.interrupted += len(attempts) - (view["status"] == "SUCCESS")
            report.twice += len(attempts) > 1
            report.given_back += len(outcomes) - len(attempts)
        return report

    # --- what a cluster does ------------------------------------------------------------------------------------

    async def _scrape(self, client: httpx.AsyncClient) -> None:
        """Prometheus: the series of the last scrape, and none after one that failed."""
        while True:
            samples: dict[str, list[tuple[dict[str, str], float]]] = {}
            with suppress(httpx.HTTPError):
                for family in text_string_to_metric_families((await client.get("/metrics")).text):
                    for sample in family.samples:
                        samples.setdefault(sample.name, []).append((sample.labels, sample.value))
            self._samples = samples
            await asyncio.sleep(SCRAPE_S)

    async def _scale(self, model: str) -> None:
        """KEDA, for one class."""
        rule, deployment = self._rules[model], self.deployments[model]
        query = Query(WAITING_ONLY.metric, rule.query.models) if self.variant.waiting_only else rule.query
        scaler = Scaler(rule, time.monotonic())
        while True:
            wanted = scaler.replicas(query.value(self._samples), deployment.replicas, time.monotonic())
            deployment.scale(wanted)
            await asyncio.sleep(rule.poll_s)

    async def _until(self, condition: Any) -> None:
        async with asyncio.timeout(READY_WITHIN_S):
            while not condition():
                await asyncio.sleep(0.05)

    async def _until_published(self, client: httpx.AsyncClient) -> None:
        async with asyncio.timeout(20 * READY_WITHIN_S):  # all of them start at once, and share the cores
            while True:
                with suppress(httpx.HTTPError, KeyError):
                    listed = (await client.get("/v1/models")).json()["data"]
                    if set(self.models) <= {model["name"] for model in listed}:
                        return
                await asyncio.sleep(0.2)
