"""Versions of models in Replicate's words: the id of each, the model that an id means, and the inputs that it takes."""

import hashlib
import re
from typing import Any

import msgspec

from penstock.core.model import Member, Model
from penstock.errors import InvalidRequest, ModelNotFound
from penstock.intake.models import Catalogue
from penstock.intake.params import properties, with_defaults
from penstock.intake.requests import OutputRequest

LIST = "GET /replicate/v1/models lists them"

OUTPUTS: dict[str, dict[str, Any]] = {
    "image": {"type": "string", "format": "uri"},
    "data": {"type": "object"},
    "any": {},
}
"""What the card of a model says that it produces -> the schema of a prediction's output."""

_VERSION = re.compile(r"[0-9a-f]{7,64}|v?[0-9]+(\.[0-9]+)*|latest")
"""An id of Replicate, the beginning of one, or a number. Anything else is taken for the name of a model."""


def version_id(name: str, digest: str) -> str:
    """Return the id of a version of a model: 64 hex digits, which no other model has, and which change with everything
    that changes the results of the model."""
    return hashlib.sha256(f"{name} {digest}".encode()).hexdigest()


def model_of(version: str, models: Catalogue) -> Model:
    """Return the version of a model that `version` of a prediction means.

    It is the name of a model, alone or as owner/name or owner/name:version, or the id of a version. A version behind a
    name counts only if the model has it. Both clients of Replicate send the id alone, without the model: an id that is
    not known here stands for the only model that makes images. Raises ModelNotFound, NotReady.
    """
    models.ensure_known()
    named, _, wanted = version.partition(":")
    name, defaults = named.rpartition("/")[2], {model.name: model for model in models.defaults()}
    versions = [one.model for one in models.all()]
    for model in versions:
        if version_id(model.name, model.digest) in (version, wanted) or name == f"{model.name}@{model.version}":
            return model
    if name in defaults:
        of_name = [model for model in versions if model.name == name and model.version == wanted]
        return of_name[0] if of_name else defaults[name]
    if not _VERSION.fullmatch(version):
        raise ModelNotFound(f"no model {name} is served here; {LIST}", param="version")
    makers = [model for model in defaults.values() if model.produces == "image"]
    if len(makers) != 1:
        raise ModelNotFound(
            f"no model here has the version {version}, and the request does not name its model; "
            f"use owner/name, or a version of this server: {LIST}",
            param="version",
        )
    return makers[0]


def params_in(model: Model, inputs: dict[str, Any]) -> dict[str, Any]:
    """Return the inputs that are params of the model, without the fixed inputs.

    Raises InvalidRequest for an unknown input, and for a fixed input with a value that the model cannot do.
    """
    own = properties(model.params)
    params = {name: value for name, value in inputs.items() if name in own}
    fixed = _fixed_inputs(model, params)
    if unknown := [name for name in inputs if name not in params and name not in fixed]:
        known = ", ".join(openapi_of(model)["components"]["schemas"]["Input"]["properties"])
        raise InvalidRequest(f"{model.name} has no such input; known are: {known}", param=f"params.{unknown[0][:100]}")
    for name, value in fixed.items():
        if inputs.get(name, value) != value:
            raise InvalidRequest(
                f"{model.name} cannot do {_json(inputs[name])[:40]}: leave it out, or give {_json(value)}",
                param=f"params.{name}",
            )
    return {name: value for name, value in inputs.items() if name not in fixed}


def openapi_of(model: Model) -> dict[str, Any]:
    """Return the OpenAPI document of a version, which has only the schemas `Input` and `Output`, as Cog makes it."""
    of_file = {f"output_{name}": one for name, one in properties(msgspec.json.schema(OutputRequest)).items()}
    fixed = {name: {"const": value, "default": value} for name, value in _fixed_inputs(model, {}).items()}
    own, schemas = _own_inputs(model.params)
    members: dict[str, Any] = {}
    for name, member in model.inputs.items():
        if member.kind == "json":
            members[name], more = _rooted(member.schema)
            schemas |= more
        else:
            members["image" if name == model.sole_image else name] = _file(name, member)
    schemas["Input"] = {
        "title": "Input",
        "type": "object",
        "properties": members | own | fixed | (of_file if model.produces != "data" else {}),
        "required": [
            "image" if name == model.sole_image else name for name, member in model.inputs.items() if member.required
        ],
    }
    schemas["Output"] = {"title": "Output"} | OUTPUTS[model.produces]
    return {
        "openapi": "3.1.0",
        "info": {"title": model.title, "version": model.version},
        "paths": {},
        "components": {"schemas": schemas},
    }


def _file(name: str, member: Member) -> dict[str, Any]:
    title = "Image" if member.kind == "image" else name
    described = {"description": member.description} if member.description else {}
    return {"type": "string", "format": "uri", "title": title} | described


def _own_inputs(params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schemas of the params by name, and those that they refer to."""
    whole, definitions = _rooted(params)
    root = str(whole.get("$ref", "")).rpartition("/")[2]
    return properties(definitions.pop(root, whole)), definitions


def _rooted(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a schema of a model without its definitions, and these: they are components here."""
    whole = msgspec.json.decode(msgspec.json.encode(schema).replace(b'"#/$defs/', b'"#/components/schemas/'))
    definitions = whole.pop("$defs", {})
    return whole, definitions if isinstance(definitions, dict) else {}


def _fixed_inputs(model: Model, params: dict[str, Any]) -> dict[str, Any]:
    """Inputs of Replicate's upscalers that this model has no param for, with the only value that it can do.

    These are the factor of enlargement, and no repair of faces. There are none for a model that does not say how large
    its images get.
    """
    if model.sizes.asked:
        return {"face_enhance": False}
    scale = model.sizes.rule_of(with_defaults(params, model.params, model.params)).scale
    known = {} if scale is None else {"scale": int(scale) if scale == int(scale) else scale, "face_enhance": False}
    own = properties(model.params)
    return {name: value for name, value in known.items() if name not in own}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
