"""What `python -m tools.house` counts, on packages of a few lines."""

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from tools.house.duplicates import duplicates
from tools.house.figures import figures, percentile
from tools.house.imports import Edge, between_routes, edges_of, in_cycles, upward
from tools.house.source import Module

LOOP = """
def {name}({items}):
    done = 0
    for item in {items}:
        try:
            done += {call}(item, "{name}")
        except KeyError:
            continue
    return done
"""


def modules(**texts: str) -> list[Module]:
    return [Module(f"{name.replace('__', '/')}.py", dedent(text)) for name, text in texts.items()]


def value_of(name: str, *found: Module) -> float:
    return next(row.value for row in figures(Path("src/penstock"), found, [], {}) if row.name == name)


def test_the_same_loop_with_other_names_is_found() -> None:
    pair = modules(
        a=LOOP.format(name="retry", items="ids", call="again"), b=LOOP.format(name="cancel", items="found", call="end")
    )

    groups = duplicates(pair)

    assert [[str(place) for place in group] for group in groups] == [["a:3-8", "b:3-8"]]


def test_a_loop_that_does_something_else_is_not_found() -> None:
    other = LOOP.format(name="cancel", items="found", call="end").replace("+=", "-=")

    assert duplicates(modules(a=LOOP.format(name="retry", items="ids", call="again"), b=other)) == []


def test_attributes_that_are_set_one_after_the_other_are_no_duplicate() -> None:
    body = "\n".join(f"    self.a{n} = a{n}" for n in range(8))

    assert duplicates(modules(a=f"def f(self):\n{body}\n", b=f"def g(self):\n{body}\n")) == []


def test_an_import_inside_a_function_counts_as_one() -> None:
    edges = edges_of(modules(a="def f():\n    from p.b import c\n", b="from p import a\n"), "p")

    assert edges == [Edge("a", 2, "b"), Edge("b", 1, "a")]
    assert in_cycles(edges) == ["a", "b"]


def test_a_chain_of_imports_is_no_cycle() -> None:
    assert in_cycles(edges_of(modules(a="from p import b", b="from p import c", c=""), "p")) == []


def test_an_import_of_a_layer_above_goes_up() -> None:
    edges = edges_of(modules(low="import p.high.x", high__x="from p import low"), "p")

    assert upward(edges, [{"low"}, {"high"}]) == [Edge("low", 1, "high.x")]


def test_an_import_within_one_entry_of_the_layers_does_not_go_up() -> None:
    edges = edges_of(modules(api__http__a="from p.api.http import b", api__http__b=""), "p")

    assert upward(edges, [{"api.http"}]) == []


def test_an_import_between_two_entries_of_one_folder_can_go_up() -> None:
    edges = edges_of(modules(api__http__a="from p.api.app import make", api__app=""), "p")

    assert upward(edges, [{"api.http"}, {"api.app"}]) == [Edge("api.http.a", 1, "api.app")]


def test_only_modules_with_handlers_are_routes() -> None:
    handler = "@get('/')\nasync def read(): ...\n"
    several = modules(api__a=f"from p.api import b, c\n{handler}", api__b=handler, api__c="")

    assert between_routes(edges_of(several, "p"), several) == [Edge("api.a", 1, "api.b")]


def test_a_pragma_is_no_comment() -> None:
    (module,) = modules(a="import b  # noqa: F401\n# This line says why.\nc = 1  # type: ignore\nd = 2\n")

    assert value_of("lines with a comment, %", module) == 25.0


def test_strings_below_constants_are_docstrings() -> None:
    (module,) = modules(a='"""A module with a constant."""\nLIMIT = 3\n"""Of them."""\n')

    assert value_of("docstrings", module) == 2
    assert value_of('docstrings that begin with "Of"', module) == 1


def test_the_body_of_a_function_is_counted_without_its_docstring() -> None:
    (module,) = modules(a='def f():\n    """Says."""\n    a = 1\n    return a\n')

    assert value_of("function, lines: longest", module) == 4
    assert value_of("function body, lines: longest", module) == 2


def test_a_class_name_may_repeat_in_the_client_only() -> None:
    found = modules(a="class A: ...\nclass B: ...", b="class B: ...", client__a="class A: ...")

    assert value_of("class names used more than once", *found) == 2
    assert value_of("class names used more than once outside client/", *found) == 1


def test_a_percentile_is_one_of_the_values() -> None:
    assert [percentile([1, 2, 3, 4], share) for share in (1, 50, 90, 100)] == [1, 2, 4, 4]


def test_another_package_is_measured_by_its_own_layers(tmp_path: Path) -> None:
    (tmp_path / "src" / "p").mkdir(parents=True)
    (tmp_path / "src" / "p" / "a.py").write_text("from p import b\n")
    (tmp_path / "src" / "p" / "b.py").write_text("")
    (tmp_path / "layers.py").write_text("LAYERS: list[set[str]] = [{'a'}, {'b'}]\n")

    command = [sys.executable, "-m", "tools.house", "--json"]
    options = ["--source", str(tmp_path / "src" / "p"), "--layers", str(tmp_path / "layers.py")]
    out = subprocess.run(
        [*command, *options], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )

    rows = {row["name"]: row for row in json.loads(out.stdout)}
    assert rows["imports that go up"]["evidence"] == ["a:1 imports b"]
