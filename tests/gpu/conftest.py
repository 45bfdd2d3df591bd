"""The first GPU of this machine, or the reason why there is none."""

import os

import pytest

from penstock.core.device import Device
from penstock.errors import ConfigurationError
from penstock.settings import WorkerSettings
from penstock.worker.devices import placements


@pytest.fixture(scope="session")
def gpu() -> Device:
    """Made the only one that this process sees, with the defaults of a worker, but in plain fp32."""
    try:
        (place,) = placements(WorkerSettings(gpu_ids="0", precision="fp32"))
    except ConfigurationError as reason:
        pytest.skip(str(reason))
    os.environ.update(place.environment)
    return place.device
