"""The registry of runners: `model_runner` checks a class and registers it, in either contract."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin

from loguru import logger
from msgspec.structs import replace

from penstock.errors import ConfigurationError
from penstock.models.base import BaseModelRunner, Card, Params, RunnerT
from penstock.models.members import members_of
from penstock.models.short import adapted
from penstock.models.signatures import forms_of, place_of

AnyRunner = type[BaseModelRunner[Any]]

LONGEST_TITLE = 80

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REGISTRY: dict[str, AnyRunner] = {}


def model_runner(name: str) -> Callable[[type[RunnerT]], type[RunnerT]]:
    """Register a runner class under the name that clients use. The class is returned as it is.

    Raises ConfigurationError, one line that names the class and what to change, when the name is taken or cannot be
    one, or the class cannot be served: a method is missing or takes something else, or `inputs`, `params` or `card` are
    of a wrong form.
    """
    if isinstance(name, type):
        raise ConfigurationError(f'{place_of(name)}write @model_runner("a-name") above {name.__name__}, with a name')
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"{name!r} cannot be the name of a model: take at most 64 letters, digits, dots, _ and -"
        )

    def register(cls: type[RunnerT]) -> type[RunnerT]:
        served, before = _served(cls, name), _REGISTRY.get(name)
        if before is not None and _identity(before) != _identity(served):  # a module that is read again is no other
            raise ConfigurationError(f"two runners are named {name}: {_where(before)} and {_where(served)}")
        _REGISTRY[name] = served
        return cls

    return register


def registry() -> dict[str, AnyRunner]:
    """Every registered runner by name, each with the full contract; `penstock.models` must have been imported."""
    return dict(_REGISTRY)


def _served(cls: AnyRunner, name: str) -> AnyRunner:
    """The class that serves a class, which is checked and whose defaults are filled in."""
    try:
        _check(cls, f"{getattr(cls, '__name__', cls)} (model {name})")
    except ConfigurationError as error:
        raise ConfigurationError(f"{place_of(cls)}{error}") from error
    cls.name = name
    cls.card = replace(cls.card, title=cls.card.title or _title(cls))
    _tell_of_params(cls)
    return adapted(cls, forms_of(cls, name))


def _check(cls: AnyRunner, called: str) -> None:
    if not (isinstance(cls, type) and issubclass(cls, BaseModelRunner)):
        raise ConfigurationError(f"{called} is no subclass of BaseModelRunner")
    if not (isinstance(cls.params, type) and issubclass(cls.params, Params)):
        raise ConfigurationError(
            f"{called}: params is {cls.params!r}; write a class, such as class MyParams(Params, frozen=True)"
        )
    if not isinstance(cls.card, Card):
        raise ConfigurationError(f'{called}: card is {cls.card!r}; write card = Card(title="…")')
    if isinstance(cls.files, str) or not all(isinstance(file, str) for file in cls.files):
        raise ConfigurationError(f'{called}: files is {cls.files!r}; write a tuple of paths, such as ("network.onnx",)')
    cls.inputs = members_of(cls.inputs, owner=called)


def _identity(cls: type) -> tuple[str, str]:
    return getattr(sys.modules.get(cls.__module__), "__file__", None) or "", cls.__qualname__


def _where(cls: type) -> str:
    return f"{cls.__qualname__} of {Path(_identity(cls)[0]).name or cls.__module__}"


def _title(cls: type) -> str:
    """The first line of the docstring, without its full stop."""
    lines = (vars(cls).get("__doc__") or "").strip().splitlines() or [""]
    return str(lines[0]).rstrip(".")[:LONGEST_TITLE]


def _tell_of_params(cls: AnyRunner) -> None:
    generic = [base for one in cls.__mro__ for base in getattr(one, "__orig_bases__", ())]
    named = {arg for base in generic if get_origin(base) is BaseModelRunner for arg in get_args(base)}
    missed = [arg for arg in named if isinstance(arg, type) and arg is not Params]
    if cls.params is Params and missed:
        logger.bind(model=cls.name).warning(
            f"{cls.__name__} is a BaseModelRunner[{missed[0].__name__}] without `params = {missed[0].__name__}`: "
            "clients can set none of its parameters"
        )
