"""Versions of models in Replicate's words: the id of each, the model that an id means, and the inputs that it takes."""

import functools
import hashlib
import re
from typing import Any

import msgspec

from penstock.errors import InvalidRequest, ModelNotFound
from penstock.intake.requests import OutputRequest
from penstock.models.base import BaseModelRunner, registry, results_digest

Runner = type[BaseModelRunner[Any]]

LIST = "GET /replicate/v1/models lists them"

OUTPUTS: dict[str, dict[str, Any]] = {
    "image": {"type": "string", "format": "uri"},
    "data": {"type": "object"},
    "any": {},
}
"""What the card of a model says that it produces -> the schema of a prediction's output."""

_VERSION = re.compile(r"[0-9a-f]{7,64}|v?[0-9]+(\.[0-9]+)*|latest")
"""An id of Replicate, the beginning of one, or a number. Anything else is taken for the name of a model."""


@functools.cache
def version_id(runner: Runner) -> str:
    """Return the id of the only version of a model: 64 hex digits, which no other model has, and which change with
    everything that changes the results of the model."""
    return hashlib.sha256(f"{runner.name} {results_digest(runner)}".encode()).hexdigest()


def model_of(version: str, models: tuple[str, ...]) -> str:
    """Return the model that `version` of a prediction means.

    A version is the name of a model, alone or as owner/name or owner/name:version, or the id of its version. Both
    clients of Replicate send the id alone, without the model: an id that is not known here stands for the only model
    that makes images. Raises ModelNotFound.
    """
    name = version.partition(":")[0].rpartition("/")[2]
    if name in models:
        return name
    by_id = {version_id(registry()[model]): model for model in models}
    if version in by_id:
        return by_id[version]
    if not _VERSION.fullmatch(version):
        raise ModelNotFound(f"no model {name} is served here; {LIST}", param="version")
    makers = [model for model in models if registry()[model].card.produces == "image"]
    if len(makers) != 1:
        raise ModelNotFound(
            f"no model here has the version {version}, and the request does not name its model; "
            f"use owner/name, or a version of this server: {LIST}",
            param="version",
        )
    return makers[0]


def params_in(runner: Runner, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs that are params of the model, without the fixed inputs.

    Raises InvalidRequest for an unknown input, and for a fixed input with a value that the model cannot do.
    """
    params = {name: value for name, value in inputs.items() if name in runner.params.__struct_fields__}
    fixed = _fixed_inputs(runner, params)
    if unknown := [name for name in inputs if name not in params and name not in fixed]:
        known = ", ".join(openapi_of(runner)["components"]["schemas"]["Input"]["properties"])
        raise InvalidRequest(f"{runner.name} has no such input; known are: {known}", param=f"params.{unknown[0][:100]}")
    for name, value in fixed.items():
        if inputs.get(name, value) != value:
            raise InvalidRequest(
                f"{runner.name} cannot do {_json(inputs[name])[:40]}: leave it out, or give {_json(value)}",
                param=f"params.{name}",
            )
    return {name: value for name, value in inputs.items() if name not in fixed}


def openapi_of(runner: Runner) -> dict[str, Any]:
    """Return the OpenAPI document of a version, which has only the schemas `Input` and `Output`, as Cog makes it."""
    (params, output), schemas = msgspec.json.schema_components(
        [runner.params, OutputRequest], ref_template="#/components/schemas/{name}"
    )
    own, written = (schemas.pop(ref["$ref"].rpartition("/")[2])["properties"] for ref in (params, output))
    of_file = {"output_format": written["format"], "output_quality": written["quality"]}
    fixed = {name: {"const": value, "default": value} for name, value in _fixed_inputs(runner, {}).items()}
    image = {"type": "string", "format": "uri", "title": "Image"}
    schemas["Input"] = {
        "title": "Input",
        "type": "object",
        "properties": {"image": image} | own | fixed | (of_file if runner.card.produces != "data" else {}),
        "required": ["image"],
    }
    schemas["Output"] = {"title": "Output"} | OUTPUTS[runner.card.produces]
    return {
        "openapi": "3.1.0",
        "info": {"title": runner.card.title, "version": runner.card.version},
        "paths": {},
        "components": {"schemas": schemas},
    }


def _fixed_inputs(runner: Runner, params: dict[str, Any]) -> dict[str, Any]:
    """Inputs of Replicate's upscalers that this model has no param for, with the only value that it can do.

    These are the factor of enlargement, and no repair of faces. There are none for a model that does not say how large
    its images get, or when the params are wrong, which the submit then reports.
    """
    try:
        size = runner.output_size(1, 1, msgspec.convert(params, runner.params))
    except msgspec.ValidationError:
        return {}
    known = {} if size is None else {"scale": size[0], "face_enhance": False}
    return {name: value for name, value in known.items() if name not in runner.params.__struct_fields__}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
