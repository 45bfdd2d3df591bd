"""The example of each request body."""

from collections.abc import Collection
from typing import Any

import msgspec

from penstock.api.description.examples import batches, replicate, uploads
from penstock.api.description.examples.parameters import IMAGE_URL
from penstock.intake.requests import InputRequest, TaskRequest
from penstock.models.base import registry


def by_type(models: Collection[str]) -> dict[str, Any]:
    """Return the examples by the name of the body's schema; a submit has one for each of these models."""
    return {
        "TaskRequest": {"examples": {model: {"value": _submit(model)} for model in models}},
        "BatchRequest": {"example": batches.REQUEST},
        "UploadRequest": {"example": msgspec.to_builtins(uploads.REQUEST)},
    } | {body.__name__: {"example": example} for body, example in replicate.REQUESTS.items()}


def _submit(model: str) -> dict[str, Any]:
    """The shortest task for this model; with its params and their defaults, if all of them have one."""
    task = TaskRequest(model=model, input=InputRequest(image_url=IMAGE_URL))
    example: dict[str, Any] = {"model": task.model, "input": msgspec.to_builtins(task.input)}
    try:
        defaults = msgspec.convert({}, registry()[model].params)
    except msgspec.ValidationError:
        return example
    return example | {"params": msgspec.to_builtins(defaults)}
