"""Which model a version means when it comes without the name of its model."""

import pytest

from penstock.api.replicate.versions import model_of, version_id
from penstock.errors import ModelNotFound
from penstock.models import load_runners
from penstock.models.registry import _REGISTRY, registry
from penstock.models.superres import SuperResolution
from penstock.settings import ModelSettings

IMAGES, SCORES = "superres-x4", "image-scoring-v1"
VERSIONS = (
    "f121d640bd286e1f",
    "f121d640bd286e1fdc67f9799164c1d5be36ff74576ee11c803ae5b665dd46aa",
    "1",
    "v1.4",
    "latest",
)


@pytest.fixture(autouse=True, scope="module")
def runners() -> None:
    load_runners(ModelSettings())


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> str:
    """Another model that makes images."""
    name = "another-x4"
    monkeypatch.setitem(_REGISTRY, name, type("Another", (SuperResolution,), {"name": name}))
    return name


@pytest.mark.parametrize("given", ["{}", "someone/{}", "someone/{}:f121d640bd286e1f", "someone/{}:anything at all"])
@pytest.mark.parametrize("model", [IMAGES, SCORES])
def test_a_name_means_its_model_whatever_stands_around_it(given: str, model: str) -> None:
    assert model_of(given.format(model), (SCORES, IMAGES)) == model


@pytest.mark.parametrize("model", [IMAGES, SCORES])
def test_the_id_of_a_version_means_its_model(model: str) -> None:
    assert model_of(version_id(registry()[model]), (SCORES, IMAGES)) == model


@pytest.mark.parametrize("version", VERSIONS)
def test_any_other_version_means_the_only_model_that_makes_images(version: str) -> None:
    assert model_of(version, (SCORES, IMAGES)) == IMAGES


@pytest.mark.parametrize("models", [(SCORES,), ()])
@pytest.mark.parametrize("version", VERSIONS)
def test_where_no_model_makes_images_it_is_refused(version: str, models: tuple[str, ...]) -> None:
    with pytest.raises(ModelNotFound, match="use owner/name"):
        model_of(version, models)


@pytest.mark.parametrize("version", VERSIONS)
def test_where_several_models_make_images_it_is_refused_and_their_own_ids_are_not(second: str, version: str) -> None:
    models = (second, SCORES, IMAGES)

    with pytest.raises(ModelNotFound, match="use owner/name"):
        model_of(version, models)
    assert [model_of(version_id(registry()[model]), models) for model in models] == list(models)


@pytest.mark.parametrize(
    "version", ["superres-x5", "someone/superres-x5:1", "f121d6", "g121d640bd286e1f", "", "v", "1."]
)
def test_what_does_not_look_like_a_version_is_the_name_of_a_model(version: str) -> None:
    with pytest.raises(ModelNotFound, match="is served here"):
        model_of(version, (SCORES, IMAGES))
