"""The parameters of a declared model: what its kind lets clients set, narrowed by the definition."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, cast

import msgspec
from msgspec import Meta, Struct

from penstock.errors import ConfigurationError
from penstock.models.base import Params
from penstock.models.declared.definition import Definition


class Setting(Struct, frozen=True, kw_only=True):
    """A parameter: a number within bounds, or one of some `values`."""

    default: float | int | str | None
    description: str
    minimum: float | None = None
    maximum: float | None = None
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


def params_of(definition: Definition, settings: Mapping[str, Setting]) -> type[Params]:
    """The class of the parameters that clients may set: those of the kind, or of them the ones that the definition
    names. Raises ConfigurationError where it names others, or widens one."""
    allowed = _narrowed(definition, settings)
    fields = [(name, _type_of(setting), setting.default) for name, setting in allowed.items()]
    made = msgspec.defstruct("DeclaredParams", fields, bases=(Params,), frozen=True, kw_only=True, module=__name__)
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
    except (msgspec.ValidationError, ValueError) as error:
        raise ConfigurationError(f"params.properties.{name}: {error}") from error
    return narrowed


def _with(setting: Setting, said: Narrowing) -> Setting:
    if setting.values and not set(said.enum or ()) <= set(setting.values):
        raise ValueError(f"enum has others than {', '.join(map(str, setting.values))}")
    return Setting(
        default=setting.default if said.default is None else said.default,
        description=said.description or setting.description,
        minimum=_inner(max, setting.minimum, said.minimum),
        maximum=_inner(min, setting.maximum, said.maximum),
        values=said.enum or setting.values,
    )


def _inner(choose: Any, one: float | None, other: float | None) -> float | None:
    given = [bound for bound in (one, other) if bound is not None]
    return choose(given) if given else None


def _type_of(setting: Setting) -> Any:
    meta = Meta(ge=setting.minimum, le=setting.maximum, description=setting.description)
    if setting.values:
        return Annotated[Literal[setting.values], Meta(description=setting.description)]
    whole = isinstance(setting.default, int)
    bare: Any = int if whole else float
    return Annotated[bare, meta] if setting.default is not None else Annotated[bare, meta] | None
