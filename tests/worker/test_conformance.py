"""The conformance kit passes models that keep the contract, and names what is wrong with those that do not."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.conformance import ConformanceReport, conformance
from penstock.conformance.likeness import same_values
from penstock.errors import ConfigurationError, InvalidOutput
from penstock.models.base import BaseModelRunner, Card, Params, Product, Work
from penstock.models.registry import _REGISTRY, model_runner


@pytest.fixture(autouse=True)
def _registry_as_before() -> Iterator[None]:
    before = dict(_REGISTRY)
    yield
    _REGISTRY.clear()
    _REGISTRY.update(before)


class Short(BaseModelRunner[Params]):
    def prepare(self, input_data: Any) -> Any:  # type: ignore[override]
        return input_data["image"].image().rgb

    def infer(self, tensor: Any) -> Any:  # type: ignore[override]
        return float(tensor.mean())

    def postprocess(self, output: Any) -> Any:  # type: ignore[override]
        return {"mean": output}


class Full(BaseModelRunner[Params]):
    card = Card(title="Mean", produces="data")

    def prepare(self, source: Any, params: Any) -> Work:
        pixels = self.image(source).rgb
        return Work([pixels[:8, :8].astype(np.float32)])

    def infer(self, tiles: Any, work: Work) -> Any:
        return tiles.mean(axis=(1, 2, 3))

    def postprocess(self, work: Work, params: Any, output: Any) -> Product:
        if not np.isfinite(work.outputs[0]):
            raise InvalidOutput
        return Product(data={"mean": float(work.outputs[0])})


def report(base: type[BaseModelRunner[Any]], *only: str, **members: Any) -> ConformanceReport:
    cls = type("Checked", (base,), members)
    model_runner("checked-v1")(cls)
    return conformance(cls, only=only)


def test_models_in_either_contract_pass() -> None:
    for base in (Short, Full):
        passed = report(base)
        assert passed.failures == []
        assert {one.check for one in passed.findings if one.verdict == "ok"} >= {"answer", "memory", "sizes", "again"}


def counting(self: Any, output: Any) -> Any:
    self.runs = getattr(self, "runs", 0) + 1
    return {"runs": self.runs}


def keeping(self: Any, tensor: Any) -> float:
    self.kept = [*getattr(self, "kept", []), np.ones(300_000)]
    return 0.0


def raising(self: Any, tensor: Any) -> float:
    raise ZeroDivisionError("by nothing")


def raising_for_small(self: Any, tensor: Any) -> float:
    return float(tensor[10, 10, 0])


class Spills(Short):
    """Gives the pixels of the task that was prepared last."""

    def prepare(self, input_data: Any) -> Any:  # type: ignore[override]
        self.pixels = super().prepare(input_data)
        time.sleep(0.005)
        return None

    def infer(self, tensor: Any) -> Any:  # type: ignore[override]
        return float(self.pixels.mean())


@pytest.mark.parametrize(
    ("base", "members", "check", "says"),
    [
        (Short, {"infer": raising}, "answer", "ZeroDivisionError: by nothing (test_conformance.py:"),
        (Short, {"card": Card(title="x", produces="image")}, "answer", "its card says that it produces an image"),
        (Short, {"infer": raising_for_small}, "sizes", "1×1 px: IndexError"),
        (Short, {"infer": keeping}, "memory", "MB with each run: keep nothing of a task in self"),
        (Short, {"postprocess": lambda self, output: {"is_low": output < 3}}, "not a number", "NaN becomes a result"),
        (
            Full,
            {"infer": lambda self, tiles, work: tiles.mean((1, 2, 3))[:1]},
            "batches",
            "infer gave 1 outputs for 2 tiles",
        ),
        (
            Full,
            {"infer": lambda self, t, work: t.mean((1, 2, 3)) + len(t)},
            "batches",
            "gives other outputs than single",
        ),
        (Spills, {}, "neighbours", "keep nothing of a task in self"),
    ],
)
def test_what_is_wrong_with_a_model_is_named(
    base: type[BaseModelRunner[Any]], members: dict[str, Any], check: str, says: str
) -> None:
    failures = report(base, check, **members).failures

    assert any(line.startswith(f"{check}: ") and says in line for line in failures), failures


def test_a_model_that_is_not_the_same_again_is_a_warning() -> None:
    checked = report(Short, "again", postprocess=counting)

    (again,) = [one for one in checked.findings if one.check == "again"]
    assert again.verdict == "warn"
    assert "reuse: false" in again.seen


def test_members_that_are_missing_are_named() -> None:
    with pytest.raises(ConfigurationError, match="checked-v1 needs its member audio: give --input audio=@path"):
        report(Short, inputs={"audio": "file"})


def test_other_members_than_an_image_are_given(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(b"RIFF....WAVE")

    def prepare(self: Any, data: Any) -> Any:
        return [data["audio"].content_type, data["audio"].name, len(data["audio"]), data["text"]]

    members = {
        "inputs": {"audio": "file", "text": "json"},
        "prepare": prepare,
        "infer": lambda self, tensor: tensor,
        "postprocess": lambda self, output: {"seen": output},
    }
    cls = type("Checked", (Short,), members)
    model_runner("checked-v1")(cls)

    passed = conformance(cls, inputs={"audio": tmp_path / "a.wav", "text": "hi"})

    assert passed.failures == []


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"a": [1.0, "x"]}, {"a": [1.0001, "x"]}, True),
        ({"a": 1.0}, {"a": 1.1}, False),
        ({"a": 1}, {"b": 1}, False),
        (np.ones((2, 2)), np.ones((2, 3)), False),
        ((np.ones(2), np.zeros(2)), [np.ones(2), np.zeros(2)], True),
        ("a", "b", False),
        (None, None, True),
    ],
)
def test_numbers_are_compared_within_a_tolerance(a: Any, b: Any, same: bool) -> None:
    assert same_values(a, b) is same
