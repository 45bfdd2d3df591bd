"""The members of `model.toml` as tables, for docs/reference/model-toml.md."""

from __future__ import annotations

import inspect
import types
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from penstock.models.declared.definition import Definition, DefinitionSection, TensorSection

NAMES = {str: "text", int: "whole number", float: "number", bool: "`true`, `false`", Any: "anything"}


def model_members() -> Iterator[str]:
    """Returns the description and a table of members for the whole file, and for each of its sections."""
    yield _described(Definition)
    yield from _table(Definition)
    for name, hint in get_type_hints(Definition).items():
        if isinstance(hint, type) and issubclass(hint, DefinitionSection):
            yield f"\n## [{name}]\n\n{_described(hint)}"
            yield from _table(hint)
    yield f"\n## [[tensors]]\n\n{_described(TensorSection)}"
    yield from _table(TensorSection)


def _described(section: type[DefinitionSection]) -> str:
    return inspect.cleandoc(section.__doc__ or "")


def _table(section: type[DefinitionSection]) -> Iterator[str]:
    yield "\n| member | values | default |\n| --- | --- | --- |"
    hints = get_type_hints(section, include_extras=True)
    for field in msgspec.structs.fields(section):
        hint = hints[field.name]
        if isinstance(hint, type) and issubclass(hint, DefinitionSection):
            continue
        yield f"| `{field.name}` | {_values(hint)} | {_default(field)} |"


def _default(field: msgspec.structs.FieldInfo) -> str:
    value = field.default_factory() if field.default_factory is not msgspec.NODEFAULT else field.default
    if value is msgspec.NODEFAULT:
        return "required"
    return "" if value in (None, "", (), {}) else f"`{msgspec.json.encode(value).decode()}`"


def _values(hint: Any) -> str:
    """What a member may be, in words."""
    arguments, origin = get_args(hint), get_origin(hint)
    if origin is Annotated:
        return _values(arguments[0]) + _bounds(*arguments[1:])
    if origin is Literal:
        return ", ".join(f"`{word}`" for word in arguments if word != "")
    if origin in (Union, types.UnionType):
        return ", or ".join(filter(None, (_values(one) for one in arguments if one is not types.NoneType)))
    if origin is tuple and arguments[-1] is not ...:
        return f"{len(arguments)} of: {_values(arguments[0])}"
    if origin is tuple:
        return f"list of: {_values(arguments[0])}"
    if origin is dict:
        return f"table of: {_values(arguments[1])}"
    return "[table](#tensors)" if hint is TensorSection else NAMES.get(hint, "text")


def _bounds(*metas: msgspec.Meta) -> str:
    said = [f" {word} {bound:g}" for m in metas for word, bound in (("from", m.ge), ("to", m.le)) if bound is not None]
    return "".join(said)
