"""Pods of a class: real `penstock worker` with the environment that the chart gives them, stopped as a kubelet does."""

import asyncio
import signal
import sys
import time
from pathlib import Path

from penstock.settings import clean_environment
from tests.chaos.parts import Part
from tests.kube.chart import Object, environment

AS_POD = """
import os, socket, sys
socket.sethostname(sys.argv[1])
os.execv(sys.executable, [sys.executable, "-m", "penstock", "worker"])
"""
"""A pod has a host name of its own: a worker takes what another of its host and device has published for its own."""


class Pod(Part):
    """One worker, which needs root for its host name. `terminate` sends SIGTERM, and SIGKILL when the grace of the pod
    is over."""

    def __init__(self, name: str, environ: dict[str, str], grace_s: float, directory: Path) -> None:
        argv = ["unshare", "--uts", sys.executable, "-c", AS_POD, name]
        super().__init__(name, argv, clean_environment() | environ, directory / f"{name}.log")
        self._grace_s = grace_s
        self.was_killed = False

    async def terminate(self) -> None:
        """Returns when the process has ended."""
        self.signal(signal.SIGTERM)
        until = time.monotonic() + self._grace_s
        while self.alive and time.monotonic() < until:
            await asyncio.sleep(0.05)
        if self.alive:
            self.was_killed = True
            self.kill()


class Deployment:
    """Keeps as many pods as it is told, and starts another one for each that ends by itself."""

    def __init__(self, manifest: Object, environ: dict[str, str], directory: Path) -> None:
        pod = manifest["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        self.name: str = manifest["metadata"]["name"]
        self._environ = environment(container) | environ
        self._grace_s = float(pod["terminationGracePeriodSeconds"])
        self._directory = directory
        self._pods: list[Pod] = []
        self._ending: set[asyncio.Task[None]] = set()
        self.ended: list[Pod] = []
        self.started = 0
        self.times_at_zero = 0

    @property
    def replicas(self) -> int:
        """The pods that are not being stopped."""
        return len(self._pods)

    @property
    def is_ending(self) -> bool:
        """Whether a pod is being stopped."""
        return bool(self._ending)

    def scale(self, replicas: int) -> None:
        """Starts or stops pods, the newest first."""
        for dead in [pod for pod in self._pods if pod.status is not None]:
            self._pods.remove(dead)
            self.ended.append(dead)
        if replicas == 0 < self.replicas:
            self.times_at_zero += 1
        while self.replicas < replicas:
            pod = Pod(f"{self.name}-{self.started}", self._environ, self._grace_s, self._directory)
            self.started += 1
            pod.start()
            self._pods.append(pod)
        while self.replicas > replicas:
            self._end(self._pods.pop())

    def _end(self, pod: Pod) -> None:
        self.ended.append(pod)
        task = asyncio.create_task(pod.terminate())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """Stops all pods and waits for them."""
        self.scale(0)
        await asyncio.gather(*self._ending)

    def kill(self) -> None:
        """Leaves no process behind, whatever has gone wrong."""
        for pod in [*self._pods, *self.ended]:
            pod.kill()
