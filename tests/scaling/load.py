"""The tasks of one class: bursts, and pauses that end when the scaler is about to act, or has just acted."""

import asyncio
import base64
import random
from typing import Any

import httpx

from tests.scaling.pods import Deployment
from tests.support.drive import image

WORK: tuple[dict[str, Any], ...] = (
    {"tiles": 1, "tile_s": 0.05},
    {"tiles": 1, "tile_s": 1.0},
    {"tiles": 5, "tile_s": 0.4},
    {"tiles": 1, "tile_s": 10.0},
    {"tiles": 10, "tile_s": 1.1},
)
"""Short ones, and two that take longer than the cooldown of 8 s: in one piece, and in many."""

AROUND_S = (6.0, 12.0)
"""After so long without work a class goes to zero: a task that comes then meets a worker that leaves."""


class Load:
    """Submits to one model until its class has gone to zero so many times, and waits for the end of every task."""

    def __init__(self, client: httpx.AsyncClient, deployment: Deployment, model: str, rng: random.Random) -> None:
        self._client = client
        self._deployment = deployment
        self._model = model
        self._rng = rng
        self._input = {"image": "data:image/png;base64," + base64.b64encode(image()).decode()}
        self._count = 0

    async def run(self, times: int) -> list[dict[str, Any]]:
        """Returns each task as it ended, with its `tag`."""
        views: list[dict[str, Any]] = []
        while self._deployment.times_at_zero < times:
            made = [await self._submit() for _ in range(self._rng.choice((1, 1, 1, 2, 3)))]
            views += [{"tag": tag} | await self._end_of(task_id) for tag, task_id in made]
            await self._rng.choice((self._pause, self._until_it_leaves, self._until_it_leaves, self._until_it_left))()
        await self._until_it_left()
        return views

    async def _submit(self) -> tuple[str, str]:
        tag = f"{self._model}-{self._count}"
        params = {"tag": tag} | self._rng.choice(WORK)
        self._count += 1
        body = {"model": self._model, "input": self._input, "params": params}
        answer = await self._client.post("/v1/tasks", json=body)
        assert answer.status_code == 202, answer.text
        return tag, str(answer.json()["task_id"])

    async def _end_of(self, task_id: str) -> dict[str, Any]:
        while True:
            view: dict[str, Any] = (await self._client.get(f"/v1/tasks/{task_id}", params={"wait": 30})).json()
            if view["status"] not in ("PENDING", "RUNNING"):
                return view

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.uniform(*AROUND_S))

    async def _until_it_leaves(self) -> None:
        """Returns in the moment in which the last worker is told to stop, or up to half a second later."""
        while self._deployment.replicas:
            await asyncio.sleep(0.01)
        await asyncio.sleep(self._rng.choice((0.0, 0.0, self._rng.uniform(0, 0.5))))

    async def _until_it_left(self) -> None:
        while self._deployment.replicas or self._deployment.is_ending:
            await asyncio.sleep(0.05)
