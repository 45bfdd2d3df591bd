"""Whether two results are the same: numbers within a tolerance, pixels within a level, everything else exactly."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from penstock.errors import PenstockError
from penstock.models.base import Product, ProductFile
from penstock.pixels.decoding import decode
from penstock.worker.results import files_of

TOLERANCE = 1e-3
"""Relative and absolute. Batches of another size are computed in another order, on a GPU by other kernels."""

LEVELS = 2
"""By so many of 255 levels may pixels differ for the same reason."""


def same_products(a: Product, b: Product) -> bool:
    """Whether two products hold the same result."""
    return same_values(a.data, b.data) and _same_files(a, b)


def same_values(a: Any, b: Any) -> bool:
    """Whether two values are the same: numbers and arrays within TOLERANCE, in objects and lists at any depth."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same_values(a[name], b[name]) for name in a)
    if _is_numeric(a) and _is_numeric(b):
        return np.shape(a) == np.shape(b) and bool(np.allclose(a, b, TOLERANCE, TOLERANCE, equal_nan=True))
    if _is_list(a) and _is_list(b):
        return len(a) == len(b) and all(map(same_values, a, b))
    return type(a) is type(b) and bool(a == b)


def _is_numeric(value: Any) -> bool:
    if isinstance(value, bool | int | float | np.generic):
        return True
    return isinstance(value, np.ndarray) and value.dtype.kind in "biufc"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _same_files(a: Product, b: Product) -> bool:
    ours, theirs = files_of(a), files_of(b)
    names = [[file.name for file in files] for files in (ours, theirs)]
    return names[0] == names[1] and all(map(_same_content, ours, theirs))


def _same_content(a: ProductFile, b: ProductFile) -> bool:
    if bytes(a.content) == bytes(b.content):
        return True
    try:
        pixels = [decode(bytes(one.content)).rgb.astype(int) for one in (a, b)]
    except PenstockError:  # files of another kind that differ
        return False
    return pixels[0].shape == pixels[1].shape and int(np.abs(pixels[0] - pixels[1]).max()) <= LEVELS
