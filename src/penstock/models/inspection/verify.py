"""Checks the folder of a model: its definition, its files, and its answer to its example."""

from __future__ import annotations

import time
from pathlib import Path

from msgspec import Struct

from penstock.errors import ConfigurationError
from penstock.models.base import DeviceBroken
from penstock.models.declared import FILE, check
from penstock.models.declared.document import InvalidModel, read_definition
from penstock.models.declared.runner import declared_runner
from penstock.models.inspection.inspection import digest
from penstock.models.inspection.reading import read_graph
from penstock.settings import LimitSettings


class VerifyRequest(Struct, frozen=True, kw_only=True):
    """The folder of a model."""

    folder: str


class VerifiedModel(Struct, frozen=True, kw_only=True):
    """A model that can be served. `took_s` is the time of its load, with its answer to its example."""

    kind: str
    guessed: tuple[str, ...]
    has_example: bool
    took_s: float


def verify(request: VerifyRequest) -> VerifiedModel:
    """Load a model, which runs its check. Raises ConfigurationError with one line when it is not to be served."""
    folder = Path(request.folder)
    definition = read_definition(folder)
    file = folder / definition.file
    if not file.is_file() or digest(file) != definition.sha256:
        raise InvalidModel(f"{folder / FILE}: {definition.file} is missing, or another file than that of sha256")
    try:
        read_graph(file)
    except InvalidModel as error:
        raise InvalidModel(f"{file}: {error}") from error
    started = time.monotonic()
    try:
        declared_runner(folder)(LimitSettings()).load_model(check.ON_CPU)
    except DeviceBroken as error:
        raise ConfigurationError(f"{file}: ONNX Runtime cannot load it: {error}") from error
    return VerifiedModel(
        kind=definition.kind,
        guessed=tuple(definition.guessed),
        has_example=bool(definition.check.input and definition.check.answer),
        took_s=time.monotonic() - started,
    )
