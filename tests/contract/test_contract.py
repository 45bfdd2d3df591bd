"""A short form of `just contract`."""

from pathlib import Path

import pytest

from tests.contract.fuzz import fuzz, server


@pytest.mark.slow
@pytest.mark.timeout(900)  # a thousand requests, on a machine that may be busy
def test_ht1_the_server_answers_made_up_requests_as_its_document_says(tmp_path: Path) -> None:
    with server(tmp_path) as system:
        run = fuzz(system, max_examples=1, seed=1)

    assert not run.findings, run.report
    assert run.sent >= 1000
