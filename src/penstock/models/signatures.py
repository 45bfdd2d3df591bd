"""The two forms in which a class may write each method of a runner, told apart by what the method takes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, NamedTuple

from penstock.errors import ConfigurationError

Form = Literal["full", "short"]


class Signature(NamedTuple):
    """What a method takes in either form, without `self`; `short` is None where there is the full form alone."""

    full: tuple[str, ...]
    short: tuple[str, ...] | None = None

    def written(self, name: str) -> str:
        """How the method should be defined."""
        forms = [form for form in (self.short, self.full) if form is not None]
        return " or ".join(f"{name}({', '.join(('self', *form))})" for form in forms)


METHODS: dict[str, Signature] = {
    "__init__": Signature(("limits",), ()),
    "load_model": Signature(("device",), ()),
    "prepare": Signature(("source", "params"), ("input_data",)),
    "infer": Signature(("tiles", "work"), ("tensor",)),
    "postprocess": Signature(("work", "params", "output"), ("output",)),
    "unload": Signature(()),
    "warmup": Signature(()),
    "memory_needed": Signature(("source", "params")),
    "output_size": Signature(("width", "height", "params")),
    "device_size": Signature(("width", "height", "params")),
    "in_fp32": Signature(("work",)),
    "interrupt": Signature(("work",)),
    "digest": Signature(()),
}
"""Every method that a class may define."""

REQUIRED = ("prepare", "infer", "postprocess")

CLASS_METHODS = ("output_size", "device_size", "digest")


def forms_of(cls: type, name: str) -> dict[str, Form]:
    """The form of each method of a class that is registered under `name`.

    Raises ConfigurationError, one line with the file and line, when a method is missing, is a coroutine or a generator,
    or takes what neither form takes.
    """
    missing = next(
        (method for method in REQUIRED if getattr(getattr(cls, method), "__isabstractmethod__", False)), None
    )
    if missing:
        raise ConfigurationError(
            f"{place_of(cls)}{cls.__name__} (model {name}) has no {missing}: define {METHODS[missing].written(missing)}"
        )
    return {method: _form(cls, name, method) for method in METHODS}


def place_of(code: Any) -> str:
    """`my_models.py:12: ` for a function or class whose source is known, else nothing."""
    try:
        file, (_, line) = inspect.getsourcefile(code), inspect.getsourcelines(code)
    except (OSError, TypeError):
        return ""
    return f"{Path(str(file)).name}:{line}: "


def _form(cls: type, name: str, method: str) -> Form:
    function, signature = getattr(cls, method), METHODS[method]
    if isinstance(inspect.getattr_static(cls, method), property) or not callable(function):
        raise _misfit(cls, name, method, "is no method")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise _misfit(cls, name, method, "is a coroutine: threads call it, so write it without async")
    if method in REQUIRED and inspect.isgeneratorfunction(function):
        raise _misfit(cls, name, method, "is a generator: use return in place of yield")
    takes = _parameters(cls, method, function)
    if takes is None or _fits(takes, signature.full):
        return "full"
    if signature.short is not None and _fits(takes, signature.short):
        return "short"
    raise _misfit(cls, name, method, f"takes ({', '.join(map(str, ('self', *takes)))})")


def _misfit(cls: type, name: str, method: str, what: str) -> ConfigurationError:
    should = METHODS[method].written(method)
    place = place_of(getattr(cls, method))
    return ConfigurationError(f"{place}{cls.__name__}.{method} (model {name}) {what}; it should be {should}")


def _parameters(cls: type, method: str, function: Callable[..., Any]) -> list[inspect.Parameter] | None:
    """What the method takes beside `self` or `cls`; None where Python cannot tell."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        return None
    written = inspect.getattr_static(cls, method)
    takes_self = hasattr(type(written), "__get__") and not isinstance(written, staticmethod | classmethod)
    return parameters[1:] if takes_self else parameters


def _fits(takes: list[inspect.Parameter], wanted: tuple[str, ...]) -> bool:
    """Whether a call with these positional arguments gives each parameter what it is meant for. A parameter with a
    default is meant for an argument only if it has that name: `infer(self, tensor, threshold=0.5)` takes a tensor."""
    by_place = [p for p in takes if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    required = len(list(takewhile(lambda p: p.default is p.empty, by_place)))
    named = sum(1 for _ in takewhile(lambda pair: pair[0].name == pair[1], _beyond(by_place, wanted, required)))
    has_room = required + named == len(wanted) or any(p.kind is p.VAR_POSITIONAL for p in takes)
    asks_more = any(p.kind is p.KEYWORD_ONLY and p.default is p.empty for p in takes)
    return has_room and required <= len(wanted) and not asks_more


def _beyond(
    by_place: list[inspect.Parameter], wanted: tuple[str, ...], required: int
) -> Iterator[tuple[inspect.Parameter, str]]:
    return zip(by_place[required:], wanted[required:], strict=False)
