"""What one does with the folder of a declared model: describe it, run it, ask it once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penstock.core.model import Model
from penstock.models.base import Product
from penstock.models.declared.check import ON_CPU, answered
from penstock.models.declared.runner import DeclaredRunner, declared_runner
from penstock.settings import LimitSettings


def describe_folder(folder: Path, *, name: str, version: str) -> Model:
    """A version of a model as a worker publishes it; nothing is loaded. Raises ConfigurationError in one line."""
    return declared_runner(folder, name=name, version=version).described()


def runner_of_folder(folder: Path, limits: LimitSettings, *, name: str, version: str) -> DeclaredRunner:
    """A runner of this version, which is not loaded yet. Raises ConfigurationError in one line."""
    return declared_runner(folder, name=name, version=version)(limits)


def answer_of_folder(
    folder: Path, source: bytes | Mapping[str, Any], params: Mapping[str, Any] | None = None
) -> Product:
    """What the model in a folder answers to an image, or to its members, on the CPU of this process; its `[check]` is
    run before where it has one.

    Raises ConfigurationError in one line, and what a task with this input would fail with.
    """
    runner = declared_runner(folder)(LimitSettings())
    runner.load_model(ON_CPU)
    try:
        return answered(runner, source, params)
    finally:
        runner.unload()
