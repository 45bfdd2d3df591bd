"""What models were written against keeps its former names for a while, and says what it is called now."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from penstock import models
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

    assert former.registry is models.registry
    assert former.BaseModelRunner is BaseModelRunner
    assert import_module("penstock.runners.base") is base
    assert former.registry() == models.registry()


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


def test_methods_with_former_names_still_count_and_say_so() -> None:
    with pytest.warns(DeprecationWarning) as warned:

        class Former(BaseModelRunner[Params]):
            def rehearsal(self) -> list[Work]:
                return [Work([np.zeros(3)])]

            def footprint(self, source: bytes, params: Params) -> int:
                return 7 * len(source)

            def prepare(self, source: bytes, params: Params) -> Work:
                raise NotImplementedError

            def infer(self, tiles: Any, work: Work) -> Outputs:
                raise NotImplementedError

            def postprocess(self, work: Work, params: Params, output: OutputOptions) -> Product:
                raise NotImplementedError

        class FormerWork(Work):
            def recut(self, below: int) -> Work | None:
                return Work([np.zeros(below)])

    runner = Former(LimitSettings())

    assert [str(one.message).split()[-2] for one in warned] == ["warmup", "memory_needed", "split_smaller"]
    assert [work.shape for work in runner.warmup()] == [(3,)]
    assert runner.memory_needed(b"12", Params()) == 14
    smaller = FormerWork([np.zeros(9)]).split_smaller(4)
    assert smaller is not None
    assert smaller.shape == (4,)
