"""What models were written against keeps its former names for a while, and says what it is called now."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from penstock.core.request import OutputOptions
from penstock.models import base
from penstock.models.base import BaseModelRunner, Outputs, Params, Product, Work
from penstock.settings import LimitSettings


@pytest.fixture(autouse=True)
def _not_imported_before() -> Iterator[None]:
    forget()
    yield
    forget()


def forget() -> None:
    for name in [name for name in sys.modules if name.split(".")[:2] == ["penstock", "runners"]]:
        del sys.modules[name]


def test_the_former_package_of_the_models_is_the_present_one() -> None:
    with pytest.warns(DeprecationWarning, match=r"penstock\.models"):
        former = import_module("penstock.runners")

    assert former.registry is base.registry
    assert former.BaseModelRunner is BaseModelRunner
    assert import_module("penstock.runners.base") is base
    assert former.registry() == base.registry()


@pytest.mark.filterwarnings("ignore:penstock.runners is called:DeprecationWarning")
@pytest.mark.parametrize(
    ("name", "members"),
    [("onnx", "digest_of files_of manifest Session"), ("precision", "open_session"), ("tiling", "TiledImage")],
)
def test_what_a_model_for_onnx_files_needs_is_in_the_former_package(name: str, members: str) -> None:
    former = import_module(f"penstock.runners.{name}")

    assert set(members.split()) <= set(vars(former))


def test_a_setting_with_a_module_of_the_former_package_serves_its_model() -> None:
    """In a process of its own: the model would stay in the registry of this one."""
    serve = (
        "from penstock.models import load_runners\n"
        "from penstock.settings import load\n"
        "print(*load_runners(load(None).models))\n"
    )
    environ = {"PENSTOCK_MODELS_MODULES": "penstock.runners.noop", "PYTHONWARNINGS": "default"}
    done = subprocess.run([sys.executable, "-c", serve], env=environ, capture_output=True, text=True, check=True)

    assert "noop-v1" in done.stdout.split()
    assert "DeprecationWarning: penstock.runners is called penstock.models now" in done.stderr


class Present(BaseModelRunner[Params]):
    def prepare(self, source: bytes, params: Params) -> Work:
        raise NotImplementedError

    def infer(self, tiles: Any, work: Work) -> Outputs:
        raise NotImplementedError

    def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
        raise NotImplementedError


def test_methods_of_a_model_with_former_names_still_count_and_say_so() -> None:
    methods = {"rehearsal": lambda self: [Work([np.zeros(3)])], "footprint": lambda self, source, params: 7}
    with pytest.warns(DeprecationWarning, match=r"Former\.(rehearsal|footprint) is called (warmup|memory_needed) now"):
        former = type("Former", (Present,), methods)(LimitSettings())

    assert [work.shape for work in former.warmup()] == [(3,)]
    assert former.memory_needed(b"12", Params()) == 7


def test_work_that_is_recut_is_split() -> None:
    methods = {"recut": lambda self, below: Work([np.zeros(below)])}
    with pytest.warns(DeprecationWarning, match="recut is called split_smaller now"):
        former = type("FormerWork", (Work,), methods)([np.zeros(9)])

    assert former.split_smaller(4).shape == (4,)


def test_a_method_with_a_former_name_can_extend_that_of_its_base() -> None:
    with pytest.warns(DeprecationWarning, match="footprint is called memory_needed now"):

        class Twice(Present):
            def footprint(self, source: bytes, params: Params) -> int:
                return 2 * super().footprint(source, params)  # type: ignore[misc, no-any-return]

    class Thrice(Present):
        def memory_needed(self, source: bytes, params: Params) -> int:
            return 3 * super().memory_needed(source, params)

    with pytest.warns(DeprecationWarning, match="footprint is called memory_needed now"):

        class SixTimes(Thrice):
            def footprint(self, source: bytes, params: Params) -> int:
                return 2 * super().footprint(source, params)  # type: ignore[misc, no-any-return]

    assert Twice(LimitSettings()).memory_needed(b"12", Params()) == 4
    assert SixTimes(LimitSettings()).memory_needed(b"12", Params()) == 12
    assert Work([np.zeros(9)]).recut(4) is None  # type: ignore[attr-defined]
