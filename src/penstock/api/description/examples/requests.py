"""The example of each request body."""

from collections.abc import Sequence
from typing import Any

import msgspec

from penstock.api.description.examples import batches, keys, replicate, uploads
from penstock.api.description.examples import models as of_models
from penstock.api.description.examples.parameters import IMAGE
from penstock.core.model import Member, Model
from penstock.errors import InvalidRequest
from penstock.intake.params import complete_params

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
        "KeyRequest": {"example": msgspec.to_builtins(keys.REQUEST)},
        "QuotasRequest": {"example": dict(keys.QUOTAS_REQUEST.given())},
    } | {body.__name__: {"example": example} for body, example in replicate.REQUESTS.items()}


def _submit(model: Model) -> dict[str, Any]:
    """The shortest task for this model; with its params and their defaults, if all of them have one."""
    example: dict[str, Any] = {"model": model.name, "input": _input(model)}
    try:
        return example | {"params": complete_params({}, model)}
    except InvalidRequest:
        return example


def _input(model: Model) -> dict[str, Any]:
    """What the model's own example has, else something of the right kind for each member that it needs."""
    if model.example is not None and model.example.input:
        return model.example.input
    needed = {name: member for name, member in model.inputs.items() if member.required}
    if len(model.inputs) == 1 and model.sole_image in needed:
        return {"image_url": IMAGE}
    return {name: _made_up(name, member) for name, member in needed.items()}


def _made_up(name: str, member: Member) -> Any:
    if member.kind == "image":
        return IMAGE
    if member.kind == "file":
        return f"https://files.example.com/{name}"
    for examples in (member.schema.get("examples"), member.schema.get("enum")):
        if isinstance(examples, list) and examples:
            return examples[0]
    return member.schema.get("default", _OF_TYPE.get(str(member.schema.get("type")), "text"))


_OF_TYPE: dict[str, Any] = {"string": "text", "object": {}, "array": [], "number": 0.5, "integer": 1, "boolean": True}
"""A value of each type of JSON."""
