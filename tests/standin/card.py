"""Programs in fresh processes over the stand-ins, with the faults that a test asks for."""

import json
import os
import subprocess
from typing import Any

from tests.standin.answers import answers_in
from tests.standin.environment import ROOT, Standin


class ProgramFailed(AssertionError):
    """The program ended with another status than 0, or printed no JSON."""


class Card:
    """A card that computes nothing. Each fault becomes a variable: `launch=209` is SI_LAUNCH=209."""

    def __init__(self, standin: Standin) -> None:
        self.python = str(standin.python)
        self._standin = standin

    def variables(self, *, answers: bool = False, without: tuple[str, ...] = (), **faults: object) -> dict[str, str]:
        """The variables with which a process sees the stand-ins, but for libraries in `without`: libcudnn.so.9.

        `answers` makes the card give the stored results of the check images, so that a worker becomes ready.
        """
        variables = {"SI_" + name.upper(): str(value) for name, value in faults.items()}
        if answers:
            # What would be measured takes minutes to compute for an answer.
            variables["PENSTOCK_WORKER_CUDA_OPTIONS"] = "none"
            variables["SI_ANSWERS"] = str(answers_in(self._standin.directory))
        path = str(self._standin.libraries_but(without))
        return variables | {"LD_LIBRARY_PATH": path, "PYTHONPATH": str(ROOT)}

    def run(self, code: str, *, timeout_s: float = 120, answers: bool = False, without: tuple[str, ...] = (),
            environment: dict[str, str] | None = None, **faults: object) -> Any:  # fmt: skip
        """Run a program in a fresh process and return the last line that it prints, which is JSON.

        `environment` are more variables, such as CUDA_VISIBLE_DEVICES. Raises ProgramFailed with what it wrote.
        """
        variables = self.variables(answers=answers, without=without, **faults) | (environment or {})
        done = subprocess.run(
            [self.python, "-c", code],
            env=os.environ | variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        lines = done.stdout.splitlines()
        if done.returncode or not lines:
            raise ProgramFailed(f"status {done.returncode}\n{done.stdout[-4000:]}\n{done.stderr[-8000:]}")
        return json.loads(lines[-1])
