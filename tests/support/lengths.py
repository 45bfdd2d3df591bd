"""Cases that only the long form of the tests tries."""

import os
from typing import Any

import pytest

IS_LONG = os.environ.get("HYPOTHESIS_PROFILE") == "nightly"
"""Whether the long form of the tests runs."""

SAMPLED = {
    "tests/api/test_unreadable_records.py": 5,
    "tests/api/test_http_manners.py": 3,
    "tests/store/test_script_bounds.py": 3,
    "tests/store/test_bounded_work.py": 2,
    "tests/api/test_what_clients_send.py": 3,
    "tests/system/test_commands.py": 3,
    "tests/system/test_submitting.py": 2,
    "tests/system/test_client_scripts.py": 2,
    "tests/system/test_own_models.py": 2,
    "tests/system/test_try.py": 3,
    "tests/storage/test_storage_faults.py": 3,
    "tests/worker/test_decoders.py": 3,
    "tests/models/test_onnx.py": 2,
    "tests/models/test_pixels.py": 4,
    "tests/models/test_superres.py": 2,
    "tests/models/test_models_add.py": 2,
}
"""File -> n: of the cases of each of its tests the first one runs, and then every nth."""


def at_length(*cases: Any) -> list[Any]:
    """These cases for `parametrize`, each a value, or a tuple of values for several names."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.at_length) for case in cases
    ]
