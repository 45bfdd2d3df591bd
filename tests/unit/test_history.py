"""Rates of the last hour, made of one sample a minute."""

import pytest

from penstock.core.history import MinuteSample, rates_of


def test_rates_are_the_differences_between_samples_by_minute() -> None:
    samples = [
        MinuteSample(minute=10, success=100, failed=1, device_ms=0.0, workers=2),
        MinuteSample(minute=11, success=130, failed=4, device_ms=60_000.0, workers=2),
        MinuteSample(minute=13, success=150, failed=4, device_ms=180_000.0, workers=1),
    ]
    first, second = rates_of(samples)
    assert (first.minute, first.done, first.failed, first.busy) == (11, 30.0, 3.0, 0.5)
    assert (second.done, second.failed, second.busy) == (10.0, 0.0, 1.0)


@pytest.mark.parametrize("samples", [[], [MinuteSample(minute=1)]])
def test_less_than_two_samples_make_no_rate(samples: list[MinuteSample]) -> None:
    assert rates_of(samples) == []


def test_over_midnight_there_is_no_rate() -> None:
    evening, night = (
        MinuteSample(minute=1, success=900, device_ms=5.0),
        MinuteSample(minute=2, success=3, device_ms=1.0),
    )
    assert rates_of([evening, night, MinuteSample(minute=3, success=5, device_ms=2.0)])[0].done == 2.0
