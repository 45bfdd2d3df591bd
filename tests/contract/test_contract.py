"""A short form of `just contract`."""

from pathlib import Path

import pytest

from tests.contract.fuzz import ALL_PHASES, fuzz, server


@pytest.mark.slow
@pytest.mark.timeout(900)  # a thousand requests, on a machine that may be busy
@pytest.mark.parametrize(
    ("phases", "least"), [("examples,fuzzing", 80), pytest.param(ALL_PHASES, 1000, marks=pytest.mark.at_length)]
)
def test_ht1_the_server_answers_made_up_requests_as_its_document_says(tmp_path: Path, phases: str, least: int) -> None:
    with server(tmp_path) as system:
        run = fuzz(system, max_examples=1, seed=1, phases=phases)

    assert not run.findings, run.report
    assert run.sent >= least
