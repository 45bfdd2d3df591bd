"""Cases that only the long form of the tests tries."""

from typing import Any

import pytest


def at_length(*cases: Any) -> list[Any]:
    """These cases for `parametrize`, each a value, or a tuple of values for several names."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.at_length) for case in cases
    ]
