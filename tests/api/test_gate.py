"""The quality gate at the submit: what it needs, what it costs, and whose results may be reused."""

from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from penstock.core.access import Caller
from penstock.core.gate import SCORED_KILOPIXELS, SCORER
from penstock.core.model import Model
from penstock.errors import InvalidRequest
from penstock.intake import estimates
from penstock.intake.call import SubmitCall, checked_call
from penstock.intake.examine import look_at
from penstock.intake.models import Catalogue
from penstock.intake.parse import convert
from penstock.intake.requests import TaskRequest
from penstock.intake.reuse_digest import reuse_digest
from penstock.settings import LimitSettings, Settings
from penstock.store import Store
from tests.support.drive import MODEL, WORKER, body, claim, data_uri, image
from tests.support.published import models_of, taken

pytestmark = pytest.mark.shared_server

SCORE = {"post": {"score": True}}


def call(params: dict[str, Any], *models: Model, serve: tuple[str, ...] = ()) -> SubmitCall:
    catalogue: Catalogue = taken(*(models or models_of()), serve=serve)
    task = convert(body(params=params, image_url=data_uri(image())), TaskRequest)
    return checked_call(task, catalogue, caller=Caller("alice"), base_url="", traceparent="")


def test_scores_need_the_scoring_model_in_the_catalogue() -> None:
    with pytest.raises(InvalidRequest, match=f"{SCORER}, which scores, is not served here") as refused:
        call(SCORE, serve=(MODEL,))

    assert refused.value.param == "params.post.score"
    assert call({"compare": True}, serve=(MODEL,)).scorer is None
    assert call({"post": {}}, serve=(MODEL,)).scorer is None


def test_what_is_scored_depends_on_the_scoring_model_too() -> None:
    def digest(asked: SubmitCall) -> str | None:
        return reuse_digest(asked, [look_at(asked, Settings(limits=LimitSettings()))])

    models = models_of()
    others = [replace(model, digest="another") if model.name == SCORER else model for model in models]

    assert digest(call(SCORE, *models)) != digest(call(SCORE, *others))
    assert digest(call({}, *models)) == digest(call({}, *others))
    assert digest(call({}, *models)) != digest(call(SCORE, *models))


def test_scores_are_counted_and_a_comparison_is_not() -> None:
    plain, compared, scored = (call(params).sizes.kilopixels_of(200, 100) for params in ({}, {"compare": True}, SCORE))

    assert plain == compared == scored - SCORED_KILOPIXELS


async def test_where_no_worker_has_both_models_a_submit_is_refused(
    client: httpx.AsyncClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimates, "KNOWN_FOR_S", 0)

    async def answers(params: dict[str, Any]) -> list[int]:
        asked = body(params=params)
        return [(await client.post(path, json=asked)).status_code for path in ("/v1/tasks", "/v1/tasks/quote")]

    assert await answers(SCORE) == [202, 200], "whoever comes may have both"
    await store.leases.renew(replace(WORKER, models=(MODEL,)), [])
    await store.leases.renew(replace(WORKER, id="w2", models=(SCORER,)), [])
    assert await answers(SCORE) == [503, 503]
    assert await answers({}) == [202, 200]

    problem = (await client.post("/v1/tasks", json=body(params=SCORE))).json()
    assert (problem["code"], problem["param"]) == ("model_unavailable", "params.post.score")

    await store.leases.renew(replace(WORKER, id="w3", models=(MODEL, SCORER)), [])
    assert await answers(SCORE) == [202, 200]


async def test_the_wishes_reach_the_worker(client: httpx.AsyncClient, store: Store) -> None:
    asked = {"post": {"score": True, "min_gain": 0.5}, "compare": True}

    assert (await client.post("/v1/tasks", json=body(params=asked))).status_code == 202

    assert (await claim(store)).request.params == asked
