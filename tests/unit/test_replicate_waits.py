"""How long an answer is held for Replicate's clients."""

import pytest

from penstock.api.replicate.routes import held_s


@pytest.mark.parametrize(("asked_s", "held"), [(1, 0.5), (2, 1), (60, 59), (300, 299)])
def test_an_answer_is_there_before_the_client_gives_up(asked_s: int, held: float) -> None:
    assert held_s(asked_s) == held
