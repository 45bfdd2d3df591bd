"""Which model a version means when it comes without the name of its model."""

import pytest
from msgspec.structs import replace

from penstock.api.replicate.versions import model_of, openapi_of, params_in, version_id
from penstock.core.model import Member, Model, SizeRule, Sizes
from penstock.errors import InvalidRequest, ModelNotFound, NotReady
from penstock.intake.models import Catalogue
from tests.support.published import models_of, taken

IMAGES, SCORES = "superres-x4", "image-scoring-v1"
VERSIONS = (
    "f121d640bd286e1f",
    "f121d640bd286e1fdc67f9799164c1d5be36ff74576ee11c803ae5b665dd46aa",
    "1",
    "v1.4",
    "latest",
)
MODELS = {model.name: model for model in models_of()}
ANOTHER = replace(MODELS[IMAGES], name="another-x4")
SECOND = replace(MODELS[IMAGES], version="2", digest="other weights")


def served(*names: str) -> Catalogue:
    return taken(*(MODELS[name] for name in names))


@pytest.mark.parametrize("given", ["{}", "someone/{}", "someone/{}:f121d640bd286e1f", "someone/{}:anything at all"])
@pytest.mark.parametrize("model", [IMAGES, SCORES])
def test_a_name_means_its_model_whatever_stands_around_it(given: str, model: str) -> None:
    assert model_of(given.format(model), served(SCORES, IMAGES)).name == model


@pytest.mark.parametrize("model", [IMAGES, SCORES])
def test_the_id_of_a_version_means_its_model(model: str) -> None:
    assert model_of(version_id(model, MODELS[model].digest), served(SCORES, IMAGES)).name == model


def test_a_version_behind_a_name_counts_if_the_model_has_it() -> None:
    both = [replace(model, versioned=True) for model in (MODELS[IMAGES], SECOND)]
    models = taken(*both)

    given = ("superres-x4", "a/superres-x4:2", "superres-x4@2", version_id(IMAGES, "other weights"), "a/superres-x4:9")
    assert [model_of(one, models).version for one in given] == ["1", "2", "2", "2", "1"]


@pytest.mark.parametrize("version", VERSIONS)
def test_any_other_version_means_the_only_model_that_makes_images(version: str) -> None:
    assert model_of(version, served(SCORES, IMAGES)).name == IMAGES


@pytest.mark.parametrize("models", [(SCORES,), ()])
@pytest.mark.parametrize("version", VERSIONS)
def test_where_no_model_makes_images_it_is_refused(version: str, models: tuple[str, ...]) -> None:
    with pytest.raises(ModelNotFound, match="use owner/name"):
        model_of(version, served(*models))


@pytest.mark.parametrize("version", VERSIONS)
def test_where_several_models_make_images_it_is_refused_and_their_own_ids_are_not(version: str) -> None:
    models = taken(ANOTHER, MODELS[SCORES], MODELS[IMAGES])

    with pytest.raises(ModelNotFound, match="use owner/name"):
        model_of(version, models)
    ids = [version_id(model.name, model.digest) for model in models.defaults()]
    assert [model_of(one, models).name for one in ids] == list(models.names())


@pytest.mark.parametrize(
    "version", ["superres-x5", "someone/superres-x5:1", "f121d6", "g121d640bd286e1f", "", "v", "1."]
)
def test_what_does_not_look_like_a_version_is_the_name_of_a_model(version: str) -> None:
    with pytest.raises(ModelNotFound, match="is served here"):
        model_of(version, served(SCORES, IMAGES))


def test_before_any_worker_has_published_a_model_nothing_is_known() -> None:
    with pytest.raises(NotReady):
        model_of(IMAGES, Catalogue())


def test_a_version_describes_every_member_of_its_input() -> None:
    level = {"$ref": "#/$defs/Level", "$defs": {"Level": {"type": "integer"}}}
    model = Model(
        name="speech",
        version="1",
        digest="d",
        produces="data",
        inputs={
            "photo": Member(),
            "audio": Member(kind="file", description="what was said"),
            "level": Member(kind="json", schema=level, required=False),
        },
    )

    schemas = openapi_of(model)["components"]["schemas"]

    assert [*schemas["Input"]["properties"]] == ["image", "audio", "level"]
    assert schemas["Input"]["required"] == ["image", "audio"]
    assert schemas["Input"]["properties"]["audio"]["description"] == "what was said"
    assert schemas["Input"]["properties"]["level"] == {"$ref": "#/components/schemas/Level"}
    assert schemas["Level"] == {"type": "integer"}


def test_an_upscaler_does_what_others_take_for_granted_and_nothing_else() -> None:
    fixed = Model(name="four", version="1", digest="d", produces="image", sizes=Sizes(rule=SizeRule(scale=4.0)))
    inputs = openapi_of(fixed)["components"]["schemas"]["Input"]["properties"]

    assert (inputs["scale"]["const"], inputs["face_enhance"]["const"]) == (4, False)
    assert params_in(fixed, {"scale": 4}) == {}
    with pytest.raises(InvalidRequest, match="cannot do 2"):
        params_in(fixed, {"scale": 2})
    with pytest.raises(InvalidRequest, match="no such input"):
        params_in(MODELS[SCORES], {"scale": 4})


def test_an_upscaler_of_any_scale_takes_it_as_its_own_and_repairs_no_faces() -> None:
    inputs = openapi_of(MODELS[IMAGES])["components"]["schemas"]["Input"]["properties"]

    assert (inputs["scale"]["default"], inputs["face_enhance"]["const"]) == (4.0, False)
    given = {"scale": "what a schema refuses", "variant": "clean", "face_enhance": False}
    assert params_in(MODELS[IMAGES], given) == {"scale": "what a schema refuses", "variant": "clean"}
    with pytest.raises(InvalidRequest, match="superres-x4 cannot do true: leave it out, or give false"):
        params_in(MODELS[IMAGES], {"face_enhance": True})
