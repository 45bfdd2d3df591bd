"""Parameters are checked against the schema that a worker has published, in the words of the rest of a request."""

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from penstock.core.model import Model
from penstock.errors import InvalidRequest
from penstock.intake.params import complete_params
from penstock.intake.parse import convert
from penstock.models.base import Params


class Inner(Params, frozen=True):
    level: Annotated[int, Meta(ge=1, le=9)] = 3


class Everything(Params, frozen=True):
    """One parameter of each kind."""

    variant: Literal["general", "clean"] = "general"
    share: Annotated[float, Meta(gt=0, le=1)] = 0.5
    count: int = 1
    name: Annotated[str, Meta(max_length=8, pattern="^[a-z]*$")] = ""
    names: Annotated[tuple[str, ...], Meta(max_length=2)] = ()
    seed: int | None = None
    inner: Inner = Inner()


class Needed(Params, frozen=True):
    prompt: str


def model(params: Any, digest: str = "1") -> Model:
    schema = msgspec.json.schema(params) if isinstance(params, type) else params
    return Model(name="m", version="1", digest=digest, params=schema)


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"variant": "x"}, "params.variant"),
        ({"scale": 2}, "params.scale"),
        ({"variant": 1}, "params.variant"),
        ({"share": 0}, "params.share"),
        ({"share": 1.5}, "params.share"),
        ({"share": "much"}, "params.share"),
        ({"count": 1.5}, "params.count"),
        ({"count": True}, "params.count"),
        ({"name": "longer than eight"}, "params.name"),
        ({"name": "UP"}, "params.name"),
        ({"names": ["a", "b", "c"]}, "params.names"),
        ({"names": ["a", 1]}, "params.names[1]"),
        ({"inner": {"level": 10}}, "params.inner.level"),
        ({"inner": {"depth": 1}}, "params.inner.depth"),
    ],
)
def test_what_is_wrong_is_named_as_everywhere_in_a_request(params: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        complete_params(params, model(Everything))
    with pytest.raises(InvalidRequest) as by_msgspec:
        convert(params, Everything, inside="params")

    assert refused.value.param == param
    assert by_msgspec.value.param in (param, param.partition("[")[0])


@pytest.mark.parametrize(
    ("params", "detail"),
    [
        ({"share": "much"}, "Expected `float`, got `str`"),
        ({"seed": "x"}, "Expected `int | null`, got `str`"),
        ({"inner": {"level": 10}}, "Expected a number <= 9"),
        ({"share": 0}, "Expected a number > 0"),
        ({"name": "longer than eight"}, "Expected `str` of length <= 8"),
        ({"names": ["a", "b", "c"]}, "Expected `array` of length <= 2"),
        ({"name": "UP"}, "Expected `str` matching regex '^[a-z]*$'"),
    ],
)
def test_a_refusal_says_what_was_expected(params: dict[str, Any], detail: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        complete_params(params, model(Everything))

    assert refused.value.detail == detail


def test_a_value_that_meets_two_of_which_it_should_meet_one_is_refused_with_that_reason() -> None:
    either = {"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 1}]}
    with pytest.raises(InvalidRequest, match="more than one") as refused:
        complete_params({"n": 5}, model({"properties": {"n": either}}))

    assert refused.value.param == "params.n"


def test_a_refusal_lists_what_is_known() -> None:
    with pytest.raises(InvalidRequest, match="Invalid enum value 'x'; known are: clean, general"):
        complete_params({"variant": "x"}, model(Everything))
    with pytest.raises(InvalidRequest, match="unknown field `scale`; known are: variant, share"):
        complete_params({"scale": 2}, model(Everything))
    with pytest.raises(InvalidRequest, match="missing required field `prompt`") as refused:
        complete_params({}, model(Needed, "2"))
    assert refused.value.param == "params.prompt"


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "variant": st.sampled_from(["general", "clean"]),
            "share": st.one_of(st.just(1), st.floats(0.01, 1)),
            "count": st.integers(-(2**60), 2**60),
            "name": st.text("abc", max_size=8),
            "names": st.lists(st.text(), max_size=2),
            "seed": st.none() | st.integers(0, 9),
            "inner": st.fixed_dictionaries({}, optional={"level": st.integers(1, 9)}),
        },
    )
)
def test_defaults_are_filled_in_as_the_runner_sees_them(params: dict[str, Any]) -> None:
    """Equal tasks have equal parameters, whatever they leave out."""
    completed = complete_params(params, model(Everything))

    assert msgspec.json.encode(completed, order="sorted") == msgspec.json.encode(
        msgspec.to_builtins(msgspec.convert(params, Everything)), order="sorted"
    )


def test_another_schema_under_the_same_digest_is_not_mistaken_for_it() -> None:
    assert complete_params({}, model(Everything))["variant"] == "general"
    assert complete_params({"prompt": "x"}, model(Needed)) == {"prompt": "x"}


def test_a_schema_reads_no_file(tmp_path: Path) -> None:
    file = tmp_path / "schema.json"
    file.write_text('{"type": "object", "required": ["x"]}')

    assert complete_params({"a": 1}, model({"$ref": file.as_uri()}, str(file))) == {"a": 1}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "nonsense"},
        {"$ref": "http://127.0.0.1:9/schema.json"},
        {"pattern": "("},
        {"$ref": "#/$defs/Missing"},
    ],
)
def test_a_schema_that_cannot_be_used_refuses_nothing_and_fetches_nothing(schema: dict[str, Any]) -> None:
    assert complete_params({"a": 1}, model(schema, str(schema))) == {"a": 1}


def test_parameters_that_are_nested_too_deeply_are_refused() -> None:
    node = {"type": "object", "additionalProperties": {"$ref": "#/$defs/Node"}}
    deep: dict[str, Any] = {}
    for _ in range(900):
        deep = {"a": deep}

    with pytest.raises(InvalidRequest, match="nested too deeply"):
        complete_params(deep, model({"$ref": "#/$defs/Node", "$defs": {"Node": node}}, "deep"))


def test_a_pattern_takes_no_longer_over_what_a_client_sends() -> None:
    slow = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$(?!x)"}}}

    with pytest.raises(InvalidRequest):
        complete_params({"a": "a" * 2_000 + "!"}, model(slow, "slow"))
