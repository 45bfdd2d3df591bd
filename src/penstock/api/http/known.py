"""What a client may say at some place of a document: the values of a list, the members of an object."""

import re
from collections.abc import Iterable, Iterator
from typing import Any

from msgspec import inspect

_STEPS = re.compile(r"\.([^.\[]+)|(\[)")


def known_at(kind: Any, where: str) -> list[str]:
    """The values, or the members, that the type has at this place of a document: `$.output.format`."""
    types = list(_alternatives(inspect.type_info(kind)))
    for member, _ in _STEPS.findall(where):
        types = [found for outer in types for inner in _inside(outer, member) for found in _alternatives(inner)]
    return [word for found in types for word in _words(found)]


def _alternatives(of: inspect.Type) -> Iterator[inspect.Type]:
    if isinstance(of, inspect.Metadata):
        yield from _alternatives(of.type)
    elif isinstance(of, inspect.UnionType):
        for one in of.types:
            yield from _alternatives(one)
    else:
        yield of


def _inside(of: inspect.Type, member: str) -> Iterable[inspect.Type]:
    """The types of this member, or, if it has no name, of the items of a list and the values of a dict."""
    if isinstance(of, inspect.StructType):
        return [field.type for field in of.fields if field.encode_name == member]
    if isinstance(of, inspect.VarTupleType | inspect.ListType):
        return [of.item_type]
    return [of.value_type] if isinstance(of, inspect.DictType) else []


def _words(of: inspect.Type) -> list[str]:
    if isinstance(of, inspect.StructType):
        return [field.encode_name for field in of.fields]
    if isinstance(of, inspect.EnumType):
        return [str(one.value) for one in of.cls]
    if isinstance(of, inspect.VarTupleType | inspect.ListType):
        return [word for one in _alternatives(of.item_type) for word in _words(one)]
    return [str(value) for value in of.values] if isinstance(of, inspect.LiteralType) else []
