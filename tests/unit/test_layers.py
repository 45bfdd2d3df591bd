"""The house keeps its order: imports only go down, and each vendor library is used in its own place."""

import ast
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import pytest

from tools.house.figures import MAY_REPEAT, SHORT_FILE, repeated_classes
from tools.house.imports import Edge, Import, between_routes, edges_of, entry_of, imports_of, layer_of, upward, within
from tools.house.layers import INSIDE, LAYERS, VENDORS
from tools.house.source import Module, modules_of

SOURCE = Path(__file__).parents[2] / "src" / "penstock"
ANYWHERE = {"msgspec", "loguru", "penstock"}
LONGEST_FILE = 350

ALL_MODULES = modules_of(SOURCE)
MODULES = [module for module in ALL_MODULES if module.name]
"""All but the package's own `__init__.py`, its public face."""


@cache
def edges() -> Sequence[Edge]:
    """Every import of ours by ours. Parsing all modules takes a second and a half: not in each process that collects
    the tests."""
    return edges_of(ALL_MODULES, "penstock")


MAY_BE_SHORT = {
    "__main__.py",  # `python -m penstock`
    "runners/noop.py",  # an old name, for those who import it
}


def pairs(edges: Iterable[Edge]) -> set[str]:
    return {f"{edge.importer} -> {edge.imported}" for edge in edges}


def test_each_module_has_a_layer() -> None:
    entries = {entry_of(module.name, LAYERS) for module in MODULES}

    assert {entry for entry in entries if layer_of(entry, LAYERS) < 0} == set(), "add these to LAYERS"


def test_imports_go_down() -> None:
    assert pairs(upward(edges(), LAYERS)) == set()


@pytest.mark.parametrize("room", INSIDE)
def test_imports_go_down_inside_a_room_too(room: str) -> None:
    assert pairs(upward(within(edges(), room), INSIDE[room])) == set()


def test_no_route_imports_a_route() -> None:
    assert pairs(between_routes(edges(), MODULES)) == set()


def test_every_name_of_the_tables_exists() -> None:
    entries = {entry for layers in (LAYERS, *INSIDE.values()) for layer in layers for entry in layer}
    places = {place for allowed in VENDORS.values() for place in allowed}

    assert entries - {module.name for module in MODULES} == set()
    assert {place for place in places if not (SOURCE / place).exists()} == set()


def test_vendors_stay_in_their_place() -> None:
    astray = [f"{m.place}:{found.line} {found.name}" for m in MODULES for found in imports_of(m) if is_astray(m, found)]

    assert astray == [], "see VENDORS"


def is_astray(module: Module, found: Import) -> bool:
    vendor = found.name.split(".")[0]
    if vendor in sys.stdlib_module_names or vendor in ANYWHERE:
        return False
    return not any(module.place == a or module.place.startswith(f"{a}/") for a in VENDORS.get(vendor, set()))


def test_only_the_settings_read_the_environment() -> None:
    may_read = ("settings/sources.py", "models/onnxruntime/runtime.py")  # the latter writes a variable before an import
    read = [
        f"{module.place}:{node.lineno}"
        for module in MODULES
        if module.place not in may_read
        for node in module.nodes
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
    ]

    assert read == []


def test_pk1_nothing_unpickles_or_evaluates() -> None:
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
    assert {module.place for module in MODULES if module.lines > LONGEST_FILE} == set()


def test_no_file_is_too_short_to_stand_alone() -> None:
    short = {module.place for module in MODULES if module.lines < SHORT_FILE and not module.is_package}

    assert short - MAY_BE_SHORT == set()


def test_no_two_classes_have_one_name() -> None:
    ours = [module for module in MODULES if not module.place.startswith(MAY_REPEAT)]

    assert repeated_classes(ours) == []


def test_the_end_of_a_task_is_counted_in_one_place() -> None:
    counting = {
        m.place for m in MODULES if 'report("tasks.finished"' in m.text or 'report("leases.reclaimed"' in m.text
    }

    assert counting == {"telemetry/endings.py"}
