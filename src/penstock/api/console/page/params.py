"""The params of a model, read from their JSON Schema: what a person reads of each, and its field in a form."""

from collections.abc import Iterator, Sequence
from typing import Any

import htpy as h
import msgspec
from msgspec import Struct

from penstock.api.console.page.fields import choice, text_field

Schema = dict[str, Any]

WORDS = {"integer": "whole number", "number": "number", "string": "text", "boolean": "yes or no"}
"""The types of JSON Schema that have a field of their own; all others are written as JSON."""
LOW, HIGH = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")


class Param(Struct, frozen=True, kw_only=True):
    """A param, or a member of one: its name, its schema without `null`, whether it is needed, and its default."""

    name: str
    schema: Schema
    required: bool
    default: Any

    @property
    def choices(self) -> Sequence[Any]:
        """The values that it may have; none where it is not one of a few."""
        given = self.schema.get("enum") or ([self.schema["const"]] if "const" in self.schema else [])
        return tuple(given)

    @property
    def description(self) -> str:
        """What it does, as the model says."""
        return str(self.schema.get("description", ""))

    @property
    def kind(self) -> str:
        """What may be given, in words."""
        if self.choices:
            return ", ".join(map(str, self.choices))
        word = WORDS.get(str(self.schema.get("type")), "JSON")
        low, high = (next((f"{self.schema[one]:g}" for one in pair if one in self.schema), "") for pair in (LOW, HIGH))
        bounds = f"{low} to {high}" if low and high else f"{low} or more" if low else f"{high} or less" if high else ""
        return f"{word}, {bounds}" if bounds else word


def params_of(schema: Schema) -> Iterator[Param]:
    """Yield the params that this schema describes, in its order; the members of a member are named with dots. There are
    none where it describes no object."""
    yield from _members(_followed(schema, schema), schema, "")


def _members(inside: Schema, whole: Schema, prefix: str) -> Iterator[Param]:
    required = inside.get("required", ())
    for name, one in inside.get("properties", {}).items():
        found = _followed(one, whole)
        options = [_followed(option, whole) for option in found.get("anyOf", ())]
        typed = [option for option in options if option.get("type") != "null"]
        plain = found | typed[0] if len(typed) == 1 else found
        if plain.get("properties"):
            yield from _members(plain, whole, f"{prefix}{name}.")
        else:
            default = found.get("default")
            yield Param(name=prefix + name, schema=plain, required=name in required, default=default)


def _followed(schema: Schema, whole: Schema) -> Schema:
    name = str(schema.get("$ref", "")).removeprefix("#/$defs/")
    found = whole.get("$defs", {}).get(name) if name else None
    return schema if found is None else found | {key: value for key, value in schema.items() if key != "$ref"}


def param_field(param: Param, value: Any = None) -> h.Element:
    """Return the field of a param in an act's form, named `params.NAME`, with this value. An empty one is not sent, so
    that the default of the model holds."""
    given = "" if value is None or value == param.default else text_of(value)
    kind = str(param.schema.get("type"))
    if param.choices or kind == "boolean":
        return _choice(param, given)
    return _number(param, given) if kind in ("integer", "number") else _line(param, given)


def _choice(param: Param, given: str) -> h.Element:
    options = [(text_of(one), text_of(one)) for one in param.choices or (True, False)]
    first = ("", f"{_default(param)} (default)" if _default(param) else "not given")
    is_text = bool(param.choices) and all(isinstance(one, str) for one in param.choices)
    data_type = "" if is_text else "json"
    return choice(param.name, _name(param), [first, *options], given, hint=param.description, data_type=data_type)


def _number(param: Param, given: str) -> h.Element:
    ends = (("min", "minimum"), ("max", "maximum"))
    bounds = {end: str(param.schema[key]) for end, key in ends if key in param.schema}
    step = "1" if param.schema["type"] == "integer" else "any"
    more = {"type": "number", "step": step, "placeholder": _default(param), "data_type": "number"} | bounds
    return text_field(param.name, _name(param), given, hint=param.description or param.kind, **more)


def _line(param: Param, given: str) -> h.Element:
    data_type = "" if param.schema.get("type") == "string" else "json"
    return text_field(
        param.name,
        _name(param),
        given,
        hint=param.description or param.kind,
        placeholder=_default(param),
        data_type=data_type,
        required=param.required,
    )


def _name(param: Param) -> str:
    return f"params.{param.name}"


def _default(param: Param) -> str:
    return "" if param.default is None else text_of(param.default)


def text_of(value: Any) -> str:
    """Return a value as a person writes it: a text as it is, all else as JSON."""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
