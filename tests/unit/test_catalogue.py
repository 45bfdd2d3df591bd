"""What a name means in the catalogue of a server."""

import pytest
from msgspec.structs import replace

from penstock.api.schemas.render_models import model_list
from penstock.core.model import Model, Residence
from penstock.errors import ModelNotFound, NotReady
from penstock.intake.models import Catalogue
from penstock.models.description import describe
from penstock.models.noop import Noop
from penstock.settings import Settings
from penstock.store import PublishedModels
from tests.support.published import models_of, published, taken
from tests.support.stores import worker_info

CODED = Model(name="coded", version="3", digest="c")
FIRST, SECOND, THIRD = (Model(name="many", version=v, digest=v, versioned=True) for v in "123")


def test_a_name_means_the_version_that_was_published_first_until_an_operator_says_otherwise() -> None:
    models = taken(SECOND, FIRST)
    assert models.find("many") is models.find("many@2")

    models.take(published(SECOND, FIRST, defaults={"many": "1"}))

    assert models.find("many").version == "1"
    assert [one.model.version for one in models.versions_of("many")] == ["2", "1"]
    assert [one.model.version for one in models.versions_of("many@2")] == ["2"]


def test_a_default_that_was_retracted_gives_way_to_the_version_that_was_first() -> None:
    assert taken(FIRST, SECOND, defaults={"many": "3"}).find("many").version == "1"


def test_a_model_with_one_version_is_found_with_and_without_it() -> None:
    models = taken(CODED)

    assert models.find("coded") is models.find("coded@3")
    assert models.find("coded@3").id == "coded"
    assert models.ids() == ("coded",)


def test_the_refusal_of_an_unknown_name_or_version_lists_the_known_ones() -> None:
    models = taken(CODED, FIRST, SECOND)

    with pytest.raises(ModelNotFound, match="the models are coded, many") as refused:
        models.find("other")
    assert refused.value.param == "model"
    with pytest.raises(ModelNotFound, match="it has 1, 2"):
        models.find("many@9")


def test_nothing_is_refused_for_good_before_a_worker_has_published_it() -> None:
    with pytest.raises(NotReady) as refused:
        Catalogue().find("coded")
    assert refused.value.retry_after_s == 1
    with pytest.raises(NotReady):
        taken(CODED, serve=("coded", "many")).find("many")


def test_models_serve_names_models_or_versions_of_them() -> None:
    assert taken(CODED, FIRST, SECOND, serve=("many@2",)).ids() == ("many@2",)
    assert taken(CODED, FIRST, SECOND, serve=("many",)).ids() == ("many@1", "many@2")


def test_a_faulty_version_that_models_serve_hides_is_not_listed() -> None:
    failed = {name: Residence(state="failed", reason="line 3") for name in ("many@2", "other@1", "coded@3")}
    workers = [replace(worker_info("w1"), residence=failed)]

    listed = model_list(taken(FIRST, serve=("many", "coded@3")), workers, Settings())

    assert [(one.name, one.version) for one in listed.faulty] == [("coded", "3"), ("many", "2")]


def test_what_redis_has_lost_is_served_on_and_what_was_retracted_is_not() -> None:
    models = taken(CODED)

    models.take(PublishedModels(versions=(), defaults={}, is_published=False))
    assert models.ids() == ("coded",)
    models.take(PublishedModels(versions=(), defaults={}, is_published=True))
    assert models.ids() == ()


def test_a_runner_describes_itself_without_being_loaded() -> None:
    noop = describe(Noop)

    assert (noop.id, noop.name, noop.version, noop.produces) == ("noop-v1", "noop-v1", "1", "data")
    assert [*noop.inputs] == ["image"]
    assert noop.sole_image == "image"


def test_the_built_in_models_say_what_their_runners_compute() -> None:
    models = {model.name: model for model in models_of()}
    scoring, superres = models["image-scoring-v1"], models["superres-x4"]

    assert scoring.sizes.rule.kilopixels_of(4000, 3000) == 50
    assert scoring.sizes.rule.result_of(4000, 3000) is None
    rule = superres.sizes.rule_of({"variant": "clean"})
    assert rule.result_of(100, 50) == (400, 200)
    assert rule.kilopixels_of(100, 50) >= 5
    by_network, bicubic = (superres.sizes.rule_of({"variant": "clean", "alpha": how}) for how in ("network", "bicubic"))
    assert by_network.kilopixels_of(100, 50, has_alpha=True) == 2 * rule.kilopixels_of(100, 50)
    assert by_network.kilopixels_of(100, 50) == rule.kilopixels_of(100, 50)
    assert bicubic.kilopixels_of(100, 50, has_alpha=True) == rule.kilopixels_of(100, 50)
    assert replace(superres, versioned=True).id == "superres-x4@1"
