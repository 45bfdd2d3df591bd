"""The example of each request body."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.api.description.examples import batches, replicate, uploads
from penstock.api.description.examples import models as of_models
from penstock.api.description.examples.parameters import IMAGE_URL
from penstock.core.model import Model
from penstock.errors import InvalidRequest
from penstock.intake.params import complete_params
from penstock.intake.requests import InputRequest, TaskRequest

MOST_EXAMPLES = 50


def by_type(models: Sequence[Model]) -> dict[str, Any]:
    """Return the examples by the name of the body's schema; a submit has one for each of the first of these models."""
    defaults: dict[str, Model] = {}
    for model in models:
        defaults.setdefault(model.name, model)
    shown = list(defaults.items())[:MOST_EXAMPLES]
    return {
        "TaskRequest": {"examples": {name: {"value": _submit(model)} for name, model in shown}},
        "BatchRequest": {"example": batches.REQUEST},
        "UploadRequest": {"example": msgspec.to_builtins(uploads.REQUEST)},
        "DefaultVersionRequest": {"example": msgspec.to_builtins(of_models.REQUEST)},
    } | {body.__name__: {"example": example} for body, example in replicate.REQUESTS.items()}


def _submit(model: Model) -> dict[str, Any]:
    """The shortest task for this model; with its params and their defaults, if all of them have one."""
    task = TaskRequest(model=model.name, input=InputRequest(image_url=IMAGE_URL))
    example: dict[str, Any] = {"model": task.model, "input": msgspec.to_builtins(task.input)}
    try:
        return example | {"params": complete_params({}, model)}
    except InvalidRequest:
        return example
