"""The function that is still to be applied to a network's output."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from penstock.lazy_import import lazy_import

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")


def activated(values: NDArray[Any], activation: str, axis: int = -1) -> NDArray[Any]:
    """The values in fp32 (fp64 where they are), after the activation; the softmax is along this axis."""
    exact = values.astype(np.promote_types(values.dtype, np.float32), copy=False)
    return ACTIVATIONS[activation](exact, axis)


def _softmax(values: NDArray[Any], axis: int) -> NDArray[Any]:
    powers: NDArray[Any] = np.exp(values - values.max(axis=axis, keepdims=True))
    powers /= powers.sum(axis=axis, keepdims=True)
    return powers


def _sigmoid(values: NDArray[Any], axis: int) -> NDArray[Any]:  # noqa: ARG001  as the others
    small = np.exp(-np.abs(values))  # never overflows
    result: NDArray[Any] = np.where(values >= 0, 1, small) / (1 + small)
    return result


def _same(values: NDArray[Any], axis: int) -> NDArray[Any]:  # noqa: ARG001  as the others
    return values


ACTIVATIONS: dict[str, Callable[[NDArray[Any], int], NDArray[Any]]] = {
    "none": _same,
    "fused": _same,
    "softmax": _softmax,
    "sigmoid": _sigmoid,
}
