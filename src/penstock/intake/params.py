"""Parameters checked against the JSON Schema that a worker has published of its model. The only importer of
jsonschema_rs.

What is wrong is said in the words that msgspec has for the rest of a request.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from loguru import logger

from penstock.core.model import Model
from penstock.errors import InvalidRequest
from penstock.intake.parse import SHOWN
from penstock.lazy_import import lazy_import

if TYPE_CHECKING:
    import jsonschema_rs
    from jsonschema_rs import ValidationError
else:
    jsonschema_rs = lazy_import("jsonschema_rs")  # where nobody sends parameters, 4 MB of it are not needed

Schema = dict[str, Any]

MOST_KEPT = 1000
"""Compiled schemas that a process keeps: one for each version of a model."""

MOST_STEPS = 10_000
"""A pattern may look ahead, as those of Python do, but may not take long over what a client sends."""

OF_OPTIONAL = frozenset({"$ref", "$defs", "type", "title", "description", "properties", "additionalProperties"})
"""What a schema of an object may say that forbids no empty one."""

_TYPES = {
    "integer": "int",
    "number": "float",
    "string": "str",
    "boolean": "bool",
    "object": "object",
    "array": "array",
    "null": "null",
}


class ParamsCheck:
    """The compiled schema of a model's parameters. A schema that cannot be compiled checks nothing here: the worker
    checks what it is given anyway."""

    def __init__(self, schema: Schema, model_id: str) -> None:
        self.schema = schema
        self._model_id = model_id
        self._defaults: Schema = with_defaults({}, schema, schema)
        self._may_be_empty = _is_all_optional(schema) or self._validator is None or self._validator.is_valid({})

    @cached_property
    def _validator(self) -> Any:
        return _compiled(self.schema, self._model_id)

    def complete(self, params: Schema) -> Schema:
        """Return the parameters with the defaults of those that are not there; the answer must not be changed.

        Raises InvalidRequest, which names the member at fault.
        """
        if not params and self._may_be_empty:
            return self._defaults
        try:
            _check(params, self._validator, self.schema, "params")
            return dict(with_defaults(params, self.schema, self.schema))
        except RecursionError as deep:
            raise InvalidRequest("it is nested too deeply", param="params") from deep


_CHECKS: dict[tuple[str, str], ParamsCheck] = {}


def complete_params(params: Schema, model: Model) -> Schema:
    """Return the parameters of a task with the model's defaults. Raises InvalidRequest."""
    check = _CHECKS.get((model.id, model.digest))
    if check is None or (check.schema is not model.params and check.schema != model.params):
        if len(_CHECKS) >= MOST_KEPT:
            _CHECKS.clear()
        check = _CHECKS[(model.id, model.digest)] = ParamsCheck(model.params, model.id)
    return check.complete(params)


_MEMBERS: dict[tuple[str, str, str], tuple[Schema, Any]] = {}


def check_json(value: Any, model: Model, member: str) -> None:
    """Check the value of a JSON member of an input. Raises InvalidRequest, which names the place in it."""
    key, schema = (model.id, model.digest, member), model.inputs[member].schema
    known = _MEMBERS.get(key)
    if known is None or known[0] != schema:
        if len(_MEMBERS) >= MOST_KEPT:
            _MEMBERS.clear()
        known = _MEMBERS[key] = schema, _compiled(schema, model.id)
    _check(value, known[1], schema, f"input.{member}")


def with_defaults(value: Any, schema: Any, whole: Schema) -> Any:
    """Return the value with the defaults of members that it does not have, as the runner will see it: a whole number
    where the schema wants any number becomes one with a point. `schema` is a part of the `whole`."""
    schema = resolved(schema, whole)
    if not schema:
        return value
    if isinstance(value, dict):
        members = _object(schema.get("properties"))
        defaults = {name: member["default"] for name, member in members.items() if "default" in _object(member)}
        others = schema.get("additionalProperties")
        return defaults | {name: with_defaults(one, members.get(name, others), whole) for name, one in value.items()}
    if isinstance(value, list) and "items" in schema:
        return [with_defaults(item, schema["items"], whole) for item in value]
    is_whole = isinstance(value, int) and not isinstance(value, bool) and schema.get("type") == "number"
    return float(value) if is_whole and abs(value) < 2**53 else value


def _object(schema: Any) -> Schema:
    """The schema, which may be true or false instead of an object."""
    return schema if isinstance(schema, dict) else {}


def resolved(schema: Any, whole: Schema) -> Schema:
    """Return the definition in `$defs` of the whole that a schema refers to, or the schema itself; nothing of one that
    is true or false."""
    schema = _object(schema)
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    return _object(_object(whole.get("$defs")).get(name, schema))


def properties(schema: Any) -> Schema:
    """Return the schemas of the members of an object by name."""
    return _object(resolved(schema, _object(schema)).get("properties"))


def _check(value: Any, validator: Any, schema: Schema, inside: str) -> None:
    try:
        if validator is None or validator.is_valid(value):
            return
        error = next(iter(validator.iter_errors(value)), None)
    except ValueError as deep:
        raise InvalidRequest("it is nested too deeply", param=inside) from deep
    raise _refusal(error, schema, inside)


def _is_all_optional(schema: Schema) -> bool:
    """Whether an empty object passes, as one sees without compiling the schema."""
    of_object = resolved(schema, schema)
    said = {name for name, value in (schema | of_object).items() if value != []}
    return of_object.get("type") == "object" and said <= OF_OPTIONAL


def _compiled(schema: Schema, model_id: str) -> Any:
    try:
        patterns = jsonschema_rs.FancyRegexOptions(backtrack_limit=MOST_STEPS)
        return jsonschema_rs.validator_for(schema, offline=True, pattern_options=patterns)
    except (jsonschema_rs.ValidationError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        logger.bind(model=model_id, reason=reason).warning("the schema of the parameters cannot be used here")
        return None


def _refusal(error: ValidationError | None, schema: Schema, inside: str) -> InvalidRequest:
    if error is None:
        return InvalidRequest("it is not what the model takes", param=inside)
    where = inside + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.instance_path)
    kind, said = error.kind.name, error.kind.as_dict()
    if kind == "additionalProperties":
        unknown = str(said["unexpected"][0])
        known = ", ".join(properties(schema)) if where == inside else ""
        text, where = _with_known(f"Object contains unknown field `{unknown[:SHOWN]}`", known), f"{where}.{unknown}"
    elif kind == "required":
        text, where = f"Object missing required field `{said['property']}`", f"{where}.{said['property']}"
    else:
        text = _text(error)
    return InvalidRequest(text, param=where[:SHOWN])


def _text(error: ValidationError) -> str:
    kind, said = error.kind.name, error.kind.as_dict()
    if kind in ("anyOf", "oneOf") and "context" in said:
        return _of_alternatives(error, [one for branch in said["context"] for one in branch])
    write = _TEXTS.get(kind)
    return write(error.instance, *said.values()) if write else error.message[:SHOWN]


def _of_alternatives(error: ValidationError, reasons: list[ValidationError]) -> str:
    """What is wrong with a value that is none of several: its type, or what the first says that takes its type."""
    others = [one for one in reasons if one.kind.name != "type"]
    types = [name for one in reasons if one.kind.name == "type" for name in one.kind.as_dict()["types"]]
    if not reasons:  # it is more than one of them
        return error.message[:SHOWN]
    return _text(others[0]) if others else _wrong_type(error.instance, types)


def _with_known(text: str, known: str) -> str:
    return f"{text}; known are: {known}" if known else text


def _not_among(value: Any, options: list[Any]) -> str:
    return _with_known(f"Invalid enum value {str(value)[:SHOWN]!r}", ", ".join(map(str, options)))


def _wrong_type(value: Any, types: list[str]) -> str:
    wanted = " | ".join(_TYPES[one] for one in sorted(types, key=list(_TYPES).index))
    return f"Expected `{wanted}`, got `{_type_of(value)}`"


def _type_of(value: Any) -> str:
    names = {type(None): "null", dict: "object", list: "array"}
    return names.get(type(value), type(value).__name__)


def _bound(sign: str) -> Callable[[Any, Any], str]:
    return lambda _value, limit: f"Expected a number {sign} {limit}"


def _length(sign: str) -> Callable[[Any, Any], str]:
    return lambda value, limit: f"Expected `{_type_of(value)}` of length {sign} {limit}"


_TEXTS: dict[str, Callable[..., str]] = {
    "enum": _not_among,
    "type": _wrong_type,
    "const": lambda value, wanted: _not_among(value, [wanted]),
    "minimum": _bound(">="),
    "maximum": _bound("<="),
    "exclusiveMinimum": _bound(">"),
    "exclusiveMaximum": _bound("<"),
    "minLength": _length(">="),
    "maxLength": _length("<="),
    "minItems": _length(">="),
    "maxItems": _length("<="),
    "pattern": lambda value, pattern: f"Expected `{_type_of(value)}` matching regex {pattern!r}",
    "multipleOf": lambda _value, step: f"Expected a multiple of {step}",
}
"""Keyword of JSON Schema -> what is said of a value that it refuses, and of the value of the keyword."""
