"""The house keeps its order: imports only go down, and each vendor library is used in its own place."""

import ast
import sys
from pathlib import Path

import pytest

from tools.house.imports import edges_of, entry_of, imports_of, layer_of, upward
from tools.house.layers import LAYERS, VENDORS
from tools.house.source import Module, modules_of

SOURCE = Path(__file__).parents[2] / "src" / "penstock"
ANYWHERE = {"msgspec", "loguru", "penstock"}
DATA = {"models", "samples"}
"""Folders with no code in them."""

ALL_MODULES = modules_of(SOURCE)
MODULES = [module for module in ALL_MODULES if module.name]
"""All but the package's own `__init__.py`, its public face."""

each_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.place)


@each_module
def test_each_module_has_a_layer(module: Module) -> None:
    entry = entry_of(module.name, LAYERS)

    assert entry in DATA or layer_of(entry, LAYERS) >= 0, f"{entry} has no layer: add it to LAYERS"


def test_imports_go_down() -> None:
    assert upward(edges_of(ALL_MODULES, "penstock"), LAYERS) == []


@each_module
def test_vendors_stay_in_their_place(module: Module) -> None:
    for found in imports_of(module):
        vendor = found.name.split(".")[0]
        if vendor in sys.stdlib_module_names or vendor in ANYWHERE:
            continue
        allowed = VENDORS.get(vendor, set())
        assert any(module.place == a or module.place.startswith(f"{a}/") for a in allowed), (
            f"{module.place}:{found.line} imports {vendor}, which belongs to "
            f"{sorted(allowed) or 'nobody: add it to VENDORS'}"
        )


@each_module
def test_only_the_settings_read_the_environment(module: Module) -> None:
    if module.place in ("settings.py", "runners/onnx.py"):  # the latter writes one variable before an import
        return

    for node in module.nodes:
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("environ", "getenv"), f"{module.place}:{node.lineno} reads the environment"


def test_nothing_unpickles_or_evaluates() -> None:
    banned = {"pickle", "dill", "cloudpickle", "marshal", "shelve"}
    for module in MODULES:
        for found in imports_of(module):
            assert found.name.split(".")[0] not in banned, f"{module.place}:{found.line}"
        for node in module.nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), f"{module.place}:{node.lineno}"


def test_there_is_no_drawer_for_odds_and_ends() -> None:
    names = {Path(module.place).stem for module in MODULES}

    assert not names & {"utils", "util", "helpers", "helper", "common", "misc", "manager"}


def test_no_file_has_grown_beyond_reading() -> None:
    assert {module.place: module.lines for module in MODULES if module.lines > 400} == {}


def test_the_end_of_a_task_is_counted_in_one_place() -> None:
    counting = {m.place for m in MODULES if '"tasks.finished"' in m.text or '"leases.reclaimed"' in m.text}

    assert counting == {"endings.py"}
