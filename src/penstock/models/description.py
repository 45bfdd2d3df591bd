"""What a runner says about itself, in the form that workers publish: the API knows a model by this alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from penstock.core.model import SOLE_IMAGE, Member, Model
from penstock.models.base import BaseModelRunner, registry
from penstock.models.digests import results_digest


def describe(runner: type[BaseModelRunner[Any]]) -> Model:
    """Return the description of a runner class; nothing is loaded.

    A runner without `inputs` takes one image. Raises ConfigurationError when one of its files cannot be read.
    """
    card = runner.card
    return Model(
        name=runner.name,
        version=card.version,
        digest=results_digest(runner),
        title=card.title,
        licence=card.licence,
        source=card.source,
        produces=card.produces,
        score_range=card.score_range,
        max_bits=card.max_bits,
        keeps_color=card.keeps_color,
        notes=card.notes,
        params=msgspec.json.schema(runner.params),
        inputs=_members(runner),
        sizes=runner.sizes(),
        example=runner.example,
    )


def descriptions(names: Iterable[str]) -> list[Model]:
    """Return the descriptions of registered runners, in this order."""
    return [describe(registry()[name]) for name in names]


def _members(runner: type[BaseModelRunner[Any]]) -> dict[str, Member]:
    declared: Mapping[str, Any] = getattr(runner, "inputs", None) or {SOLE_IMAGE: "image"}
    return {name: member if isinstance(member, Member) else Member(kind=member) for name, member in declared.items()}
