"""What `model_runner` says of a class that cannot be served, and what it makes of one that can."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from loguru import logger

from penstock.core.model import Member
from penstock.errors import ConfigurationError
from penstock.models.base import BaseModelRunner, Card, Params, Work
from penstock.models.base import model_runner as of_base
from penstock.models.digests import results_digest
from penstock.models.registry import _REGISTRY, model_runner, registry
from penstock.settings import LimitSettings


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    before = dict(_REGISTRY)
    yield
    _REGISTRY.clear()
    _REGISTRY.update(before)


def made(**members: Any) -> type[BaseModelRunner[Any]]:
    """A class with these members over three usual methods."""

    class Usual(BaseModelRunner[Params]):
        def prepare(self, source: Any, params: Any) -> Any: ...
        def infer(self, tiles: Any, work: Any) -> Any: ...
        def postprocess(self, work: Any, params: Any, output: Any) -> Any: ...

    return type("Thing", (Usual,), members)


def refusal(cls: Any, name: Any = "thing-v1") -> str:
    with pytest.raises(ConfigurationError) as refused:
        model_runner(name)(cls)
    said = str(refused.value)
    assert "\n" not in said
    assert name not in registry()
    return said


async def waits(self: Any, tensor: Any) -> None: ...


def gives(self: Any, tensor: Any) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("method", "written", "says"),
    [
        ("prepare", lambda self: 1, "takes (self); it should be prepare(self, input_data) or"),
        ("prepare", lambda self, a, b, c: 1, "prepare(self, input_data) or prepare(self, source, params)"),
        ("infer", lambda self: 1, "Thing.infer (model thing-v1) takes (self); it should be infer(self, tensor) or"),
        ("infer", lambda self, tensor, *, needed: 1, "takes (self, tensor, needed)"),
        ("infer", waits, "is a coroutine: threads call it, so write it without async"),
        ("infer", gives, "is a generator: use return in place of yield"),
        ("infer", 3, "is no method"),
        ("postprocess", lambda self, a, b: 1, "postprocess(self, output) or postprocess(self, work, params, output)"),
        ("load_model", lambda self, a, b: 1, "it should be load_model(self) or load_model(self, device)"),
        ("memory_needed", lambda self, source: 1, "it should be memory_needed(self, source, params)"),
        ("interrupt", lambda self: 1, "it should be interrupt(self, work)"),
        ("device_size", classmethod(lambda cls, size: 1), "device_size(self, width, height, params)"),
    ],
)
def test_a_method_that_takes_something_else_is_named_with_what_it_should_take(
    method: str, written: Any, says: str
) -> None:
    said = refusal(made(**{method: written}))

    assert says in said
    assert f"Thing.{method} (model thing-v1)" in said


def test_the_file_and_line_of_the_method_are_named() -> None:
    def prepare(self: Any) -> None: ...

    assert refusal(made(prepare=prepare)).startswith(
        f"test_registration.py:{prepare.__code__.co_firstlineno}: Thing.prepare"
    )


def test_a_method_that_is_missing_is_named() -> None:
    class Half(BaseModelRunner[Params]):
        def prepare(self, input_data: Any) -> Any: ...
        def postprocess(self, output: Any) -> Any: ...

    assert "Half (model thing-v1) has no infer: define infer(self, tensor) or infer(self, tiles, work)" in refusal(Half)


@pytest.mark.parametrize(
    ("members", "says"),
    [
        ({"inputs": ["audio"]}, "Thing (model thing-v1).inputs is ['audio']: write a mapping"),
        ({"inputs": {"audio": "sound"}}, 'inputs[\'audio\'] is \'sound\': write "image", "file", "json"'),
        ({"params": dict}, "params is <class 'dict'>; write a class"),
        ({"params": Params()}, "params is Params(); write a class"),
        ({"card": {"title": "Thing"}}, "card is {'title': 'Thing'}; write card = Card("),
        ({"files": "network.onnx"}, "files is 'network.onnx'; write a tuple"),
    ],
)
def test_an_attribute_of_a_wrong_form_is_named(members: dict[str, Any], says: str) -> None:
    assert says in refusal(made(**members))


@pytest.mark.parametrize("name", ["", "a b", "a@2", "a/b", ".a", "a" * 65, 7])
def test_a_name_that_cannot_stand_in_a_url_is_refused(name: Any) -> None:
    assert "cannot be the name of a model" in refusal(made(), name)


def test_the_decorator_without_a_name_says_how_it_is_written() -> None:
    with pytest.raises(ConfigurationError, match=r'write @model_runner\("a-name"\) above Thing'):
        model_runner(made())  # type: ignore[arg-type]


def test_a_class_that_is_no_runner_is_refused() -> None:
    assert "int (model thing-v1) is no subclass of BaseModelRunner" in refusal(int)


def test_two_classes_cannot_have_one_name() -> None:
    model_runner("thing-v1")(made())
    with pytest.raises(ConfigurationError, match="two runners are named thing-v1"):
        model_runner("thing-v1")(type("Another", (made(),), {}))


def test_a_class_in_the_full_form_is_served_as_it_is() -> None:
    cls = made(load_model=lambda self, device="cpu": None, prepare=lambda self, *args: 1)

    assert of_base("thing-v1")(cls) is cls is registry()["thing-v1"]
    assert not cls.one_at_a_time


class AnObject:
    def __call__(self, input_data: Any) -> int:
        return 1


@pytest.mark.parametrize(
    ("method", "written", "is_short"),
    [
        ("load_model", lambda self: None, True),
        ("load_model", lambda self, device=None: None, False),
        ("load_model", lambda self, precision="fp16": None, True),
        ("prepare", lambda self, input_data: 1, True),
        ("prepare", lambda self, input_data, params=None: 1, False),
        ("prepare", lambda self, *everything: 1, False),
        ("prepare", staticmethod(lambda input_data: 1), True),
        ("prepare", AnObject(), True),
        ("postprocess", len, True),
        ("infer", lambda self, tensor, threshold=0.5: 1, True),
        ("infer", lambda self, tiles, work: 1, False),
        ("infer", lambda self, tensor, **options: 1, True),
        ("postprocess", lambda self, output: 1, True),
        ("__init__", lambda self: None, True),
    ],
)
def test_the_form_of_each_method_is_read_from_what_it_takes(
    method: str, written: Callable[..., Any], is_short: bool
) -> None:
    cls = model_runner("thing-v1")(made(**{method: written}))

    served = registry()["thing-v1"]
    assert (served is not cls) is is_short
    assert issubclass(served, cls)
    assert served.one_at_a_time is (is_short and method == "infer")


class Own(BaseModelRunner[Params]):
    """Says what it is.

    And more.
    """

    def __init__(self) -> None:
        self.loaded = 0

    def load_model(self) -> None:  # type: ignore[override]
        self.loaded += 1

    def prepare(self, input_data: Any) -> Any:  # type: ignore[override]
        return {"bytes": len(input_data["image_url"]), "text": input_data.get("text")}

    def infer(self, tensor: Any) -> Any:  # type: ignore[override]
        return self.helper(tensor)

    def helper(self, tensor: Any) -> Any:
        return tensor | {"loaded": self.loaded, "again": self.prepare({"image_url": b"xyz"})["bytes"]}

    def postprocess(self, output: Any) -> Any:  # type: ignore[override]
        return output


def test_a_class_in_the_short_form_has_the_full_contract_and_its_own_object() -> None:
    assert model_runner("short-form-v1")(Own) is Own
    served = registry()["short-form-v1"]
    runner = served(LimitSettings(max_image_megapixels=1))

    runner.load_model(None)  # type: ignore[arg-type]
    work = runner.prepare(b"12345", Params())
    work.accept(0, runner.infer([work.tile(0)], work)[0])
    returned: Any = runner.postprocess(work, Params(), None)  # type: ignore[arg-type]

    assert returned == {"bytes": 5, "text": None, "loaded": 1, "again": 3}
    assert (served.name, served.card.title, served.card.produces) == ("short-form-v1", "Says what it is", "any")
    assert served.inputs == {"image": Member()}
    assert served.__qualname__ == "Own"
    assert results_digest(served) == results_digest(Own)
    assert Own().prepare({"image_url": b"12"}) == {"bytes": 2, "text": None}, "the class itself stays as it was written"


def test_the_title_of_a_card_stays() -> None:
    model_runner("thing-v1")(made(card=Card(title="Mine"), __doc__="A docstring."))

    assert registry()["thing-v1"].card.title == "Mine"


def test_a_tensor_of_any_kind_is_the_one_tile_of_its_work() -> None:
    model_runner("short-form-v1")(Own)
    work: Work = registry()["short-form-v1"](LimitSettings()).prepare(b"12", Params())

    assert (work.count, work.shape) == (1, ())


class HasParams(Params, frozen=True):
    side: int = 1


def test_the_parameters_of_a_task_come_with_its_members() -> None:
    def prepare(self: Any, input_data: Any) -> int:
        return int(input_data.params.side)

    model_runner("thing-v1")(made(prepare=prepare, params=HasParams))
    runner = registry()["thing-v1"](LimitSettings())

    assert runner.prepare(b"", HasParams(side=3)).tile(0) == 3


def test_a_generic_runner_without_params_says_so() -> None:
    class Forgot(BaseModelRunner[HasParams]):
        def prepare(self, source: Any, params: Any) -> Any: ...
        def infer(self, tiles: Any, work: Any) -> Any: ...
        def postprocess(self, work: Any, params: Any, output: Any) -> Any: ...

    class Kept(Forgot):
        params = HasParams

    said: list[str] = []
    sink = logger.add(lambda message: said.append(str(message)), format="{message}")
    model_runner("forgot-v1")(Forgot)
    model_runner("kept-v1")(Kept)
    logger.remove(sink)

    (line,) = said
    assert "Forgot is a BaseModelRunner[HasParams] without `params = HasParams`" in line
