"""The conformance kit: runs every check on a model, from a test or from `penstock models check`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import msgspec

from penstock.conformance.checks import CHECKS, CheckedModel, finding_of
from penstock.conformance.local_model import LocalModel, loaded
from penstock.conformance.report import ConformanceReport, ContractFinding, raised
from penstock.conformance.samples import SampleInput, sample_of
from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.models import load_runners
from penstock.models.base import BaseModelRunner, Params
from penstock.models.declared import FILE
from penstock.models.declared.runner import declared_runner
from penstock.models.loading import is_path, runner_of
from penstock.models.registry import registry
from penstock.pixels.headers import ImageBounds
from penstock.settings import Settings
from penstock.worker.devices import cpu

AnyRunner = type[BaseModelRunner[Any]]


def conformance(
    model: str | Path | AnyRunner,
    *,
    inputs: Mapping[str, Any] | None = None,
    params: Mapping[str, Any] | None = None,
    settings: Settings | None = None,
    device: Device | None = None,
    only: Collection[str] = (),
    on_finding: Callable[[ContractFinding], None] = lambda _: None,
) -> ConformanceReport:
    """Check a model: `my_models.py:Sharpness`, the path of a file with one model, or a registered class.

    `inputs` has a value for each member of the input, a Path for a file; a model with one image is checked with a photo
    that comes with Penstock. It runs on the CPU, unless a `device` is given, and takes some seconds. `only` names some
    of CHECKS; otherwise all of them run. `on_finding` is called with each finding as soon as it is there.

    Raises ConfigurationError, one line, when the model cannot be found or loaded, or an input is missing. A model that
    cannot answer is a failure of the report.
    """
    settings = settings or Settings()
    cls = registered(model, settings)
    sample = sample_of(cls, inputs or {}, ImageBounds.of(settings.limits))
    said, on = params_of(cls, params or {}), device or cpu(settings.worker.threads)
    return asyncio.run(_report(cls, sample, said, settings, on, only, on_finding))


def registered(model: str | Path | AnyRunner, settings: Settings) -> AnyRunner:
    """The runner that serves this class, or that the reference names: a class of a file or module, the folder of a
    model.toml, or the name of a model that the settings serve. Raises ConfigurationError when there is none."""
    if isinstance(model, type):
        return registry().get(getattr(model, "name", ""), model)
    reference = str(model)
    if (Path(reference) / FILE).is_file():
        return declared_runner(Path(reference))
    if not is_path(reference) and reference in load_runners(settings.models):
        return registry()[reference]
    return runner_of(reference)


def params_of(cls: AnyRunner, params: Mapping[str, Any]) -> Params:
    """The parameters of a model. Raises ConfigurationError where it has no such parameter, or a value is wrong."""
    try:
        return msgspec.convert(dict(params), cls.params)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"params of {cls.name}: {error}") from error


async def _report(
    cls: AnyRunner,
    sample: SampleInput,
    params: Params,
    settings: Settings,
    device: Device,
    only: Collection[str],
    on_finding: Callable[[ContractFinding], None],
) -> ConformanceReport:
    found = []
    async with loaded(cls, settings, device) as model:
        async for finding in _findings(model, sample, params, only):
            on_finding(finding)
            found.append(finding)
        return ConformanceReport(model=cls.name, load_s=model.load_s, findings=tuple(found))


async def _findings(
    model: LocalModel, sample: SampleInput, params: Params, only: Collection[str]
) -> AsyncIterator[ContractFinding]:
    try:
        first = await model.run(sample.source_for(model.runner), params)
    except Exception as error:  # noqa: BLE001  the model's own code
        yield ContractFinding(check="answer", verdict="fail", seen=raised(error))
        return
    for name in only or CHECKS:
        yield await finding_of(name, CheckedModel(model, sample, params, first))
