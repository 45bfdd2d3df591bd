"""Few cases that have each pair of values of any two axes: most faults of combinations need two, and no more."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

Case = dict[str, Any]
Axes = Mapping[str, Sequence[Any]]
Pair = frozenset[tuple[str, int]]
"""Two axes, each with the number of a value."""


def pairs_of(axes: Axes) -> set[Pair]:
    """Returns every pair of values of two axes."""
    return {
        frozenset({(one, m), (other, n)})
        for one, other in combinations(axes, 2)
        for m in range(len(axes[one]))
        for n in range(len(axes[other]))
    }


def pairwise(axes: Axes) -> Iterator[Case]:
    """Yields cases until all pairs were there; the same ones for the same axes. Greedy: each case begins with the first
    pair that is missing, and takes of each further axis the value that brings most pairs."""
    order = sorted(axes, key=lambda axis: -len(axes[axis]))
    missing = dict.fromkeys(_in_order(axes, order))
    uses: dict[tuple[str, int], int] = {}
    while missing:
        chosen = dict(sorted(next(iter(missing)), key=lambda place: order.index(place[0])))
        for axis in order:
            if axis not in chosen:
                chosen[axis] = _best(axis, len(axes[axis]), chosen, missing, uses)
        for pair in combinations(chosen.items(), 2):
            missing.pop(frozenset(pair), None)
        for place in chosen.items():
            uses[place] = uses.get(place, 0) + 1
        yield {axis: axes[axis][chosen[axis]] for axis in axes}


def _in_order(axes: Axes, order: Sequence[str]) -> Iterator[Pair]:
    for one, other in combinations(order, 2):
        for m in range(len(axes[one])):
            for n in range(len(axes[other])):
                yield frozenset({(one, m), (other, n)})


def _best(
    axis: str, values: int, chosen: Mapping[str, int], missing: Mapping[Pair, None], uses: Mapping[tuple[str, int], int]
) -> int:
    def worth(value: int) -> tuple[int, int]:
        brings = sum(frozenset({(axis, value), place}) in missing for place in chosen.items())
        return brings, -uses.get((axis, value), 0)

    return max(range(values), key=worth)
