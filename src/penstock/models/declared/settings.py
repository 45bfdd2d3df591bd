"""The parameters of a declared model: what its kind lets clients set, narrowed by the definition."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta, Struct

from penstock.errors import ConfigurationError
from penstock.models.base import Params
from penstock.models.declared.definition import Definition


class Setting(Struct, frozen=True, kw_only=True):
    """A parameter: a number within bounds, a `whole` one if that is said, or one of some `values`."""

    default: float | int | str | None
    description: str
    minimum: float | None = None
    maximum: float | None = None
    whole: bool = False
    values: tuple[Any, ...] = ()


class Narrowing(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The JSON Schema with which a definition narrows a parameter."""

    type: Literal["number", "integer", "string"] | None = None
    default: float | int | str | None = None
    description: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    enum: tuple[Any, ...] | None = None


class Schema(Struct, frozen=True, kw_only=True):
    """The JSON Schema of the parameters in a definition. Other members of it say nothing here."""

    type: Literal["object"] = "object"
    properties: dict[str, Narrowing] | None = None


def params_of(definition: Definition, settings: Mapping[str, Setting], base: type[Params] = Params) -> type[Params]:
    """The class of the parameters that clients may set: those of `base`, and those of the kind, or of these the ones
    that the definition names. Raises ConfigurationError where it names others, or widens one."""
    allowed = _narrowed(definition, settings)
    fields = [(name, _type_of(setting), setting.default) for name, setting in allowed.items()]
    made = msgspec.defstruct("DeclaredParams", fields, bases=(base,), frozen=True, kw_only=True, module=__name__)
    return cast("type[Params]", made)


def _narrowed(definition: Definition, settings: Mapping[str, Setting]) -> dict[str, Setting]:
    try:
        properties = msgspec.convert(definition.params, Schema).properties
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"params: {error}") from error
    if properties is None:
        return dict(settings)
    return {name: _one(name, said, settings) for name, said in properties.items()}


def _one(name: str, said: Narrowing, settings: Mapping[str, Setting]) -> Setting:
    if name not in settings:
        known = ", ".join(settings) or "none"
        raise ConfigurationError(f"params.properties.{name}: this kind has no such parameter; it has {known}")
    try:
        narrowed = _with(settings[name], said)
        made = msgspec.defstruct("Alone", [("value", _type_of(narrowed))])  # a hint of its own may not be converted to
        msgspec.convert({"value": narrowed.default}, made)
    except (msgspec.ValidationError, ValueError, TypeError, OverflowError) as error:
        raise ConfigurationError(f"params.properties.{name}: {error}") from error
    return narrowed


def _with(setting: Setting, said: Narrowing) -> Setting:
    return Setting(
        default=setting.default if said.default is None else said.default,
        description=said.description or setting.description,
        minimum=_inner(max, setting.minimum, _bound(math.ceil, setting, said.minimum)),
        maximum=_inner(min, setting.maximum, _bound(math.floor, setting, said.maximum)),
        whole=setting.whole,
        values=_values(setting, said.enum) if said.enum else setting.values,
    )


def _values(setting: Setting, enum: tuple[Any, ...]) -> tuple[Any, ...]:
    """Those of `enum`, each of which the setting takes."""
    if any(isinstance(value, float) for value in enum):
        raise ValueError("enum may have whole numbers and words only; say minimum and maximum")
    for value in enum:
        msgspec.convert(value, _type_of(setting))
    return enum


def _bound(rounded: Callable[[float], int], setting: Setting, said: float | None) -> float | None:
    return rounded(said) if setting.whole and said is not None else said


def _inner(choose: Any, one: float | None, other: float | None) -> float | None:
    given = [bound for bound in (one, other) if bound is not None]
    return choose(given) if given else None


def _type_of(setting: Setting) -> Any:
    meta = Meta(ge=setting.minimum, le=setting.maximum, description=setting.description)
    if setting.values:
        return Annotated[Literal[setting.values], Meta(description=setting.description)]
    bare: Any = int if setting.whole else float
    return Annotated[bare, meta] if setting.default is not None else Annotated[bare, meta] | None
