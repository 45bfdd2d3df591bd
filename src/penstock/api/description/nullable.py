"""Schemas of what clients send: every member that may be left out may be null too.

A schema may be `true` or `false` in place of an object, and stays so.
"""

import re
from typing import Any

from penstock.api.http.contents import component

REF = component("{name}")["$ref"]
"""The reference to a component, with a place for its name."""

_NULL = {"type": "null"}


def with_nulls(request: Any) -> Any:
    """Return the schema of an object, whose members that may be left out may be null too, which `decoding.decode` takes
    for the same."""
    if not isinstance(request, dict):
        return request
    optional = request.get("properties", {}).keys() - set(request.get("required", ()))
    members = {
        name: or_null(member, name) if name in optional else member
        for name, member in request.get("properties", {}).items()
    }
    return request | ({"properties": members} if "properties" in request else {})


def or_null(schema: Any, name: str) -> Any:
    """Return the schema or null, also for the values of an object with any names.

    A default that is an object is left out: it repeats the defaults of its members, and client generators fail at it.
    """
    if not isinstance(schema, dict):
        return schema
    around = {key: schema[key] for key in ("default", "description") if key in schema}
    if isinstance(around.get("default"), dict):
        del around["default"]
    inner = {key: part for key, part in schema.items() if key not in ("default", "description")}
    if "additionalProperties" in inner:
        inner["additionalProperties"] = or_null(inner["additionalProperties"], name)
    alternatives = [_titled(one, name) for one in inner.get("anyOf", [inner]) if one != _NULL]
    return around | {"anyOf": [*alternatives, _NULL]}


def title_of(name: str) -> str:
    """Turns superres-x4 into SuperresX4, as names of types are written."""
    return "".join(word[:1].upper() + word[1:] for word in re.split(r"[^A-Za-z0-9]+", name))


def _titled(schema: Any, name: str) -> Any:
    """The schema with a title, after which client generators name the type; without one they number it."""
    if not isinstance(schema, dict):
        return schema
    if "items" in schema:
        return schema | {"items": _titled(schema["items"], f"{name}_item")}
    return schema | {"title": title_of(name)} if {"enum", "additionalProperties"} & schema.keys() else schema
