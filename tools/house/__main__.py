"""Prints what the code of a package looks like, beside the bars that it is held to.

    python -m tools.house [--source src/penstock] [--layers FILE] [--json] [--list]

A checkout of another day has other folders: `--layers` names its own table, a Python file with `LAYERS = [...]`.
"""

import argparse
import ast
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tools.house.figures import Figure, Layers, figures
from tools.house.layers import INSIDE, LAYERS
from tools.house.source import modules_of

SOURCE = Path(__file__).parents[2] / "src" / "penstock"


def main() -> None:
    """Measures one package and prints its figures; always succeeds, the tests hold what must hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE, help="the folder of the package")
    parser.add_argument("--layers", type=Path, help="a Python file with its LAYERS and INSIDE")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--list", action="store_true", help="list what was counted as well")
    options = parser.parse_args()
    source = options.source.resolve()
    layers, inside = tables_of(options.layers) if options.layers else (LAYERS, INSIDE)
    rows = figures(source, modules_of(source), layers, inside)
    if options.json:
        print(json.dumps([asdict(row) | {"bar": row.bar} for row in rows], indent=1))
    else:
        show(rows, evidence=options.list)


def tables_of(path: Path) -> tuple[Layers, Mapping[str, Layers]]:
    """The literals that a file assigns to LAYERS and, where it does, to INSIDE."""
    found: dict[str, Any] = {"INSIDE": {}}
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="LAYERS" | "INSIDE" as name)], value=ast.expr() as value):
                found[name] = ast.literal_eval(value)
            case ast.AnnAssign(target=ast.Name(id="LAYERS" | "INSIDE" as name), value=ast.expr() as value):
                found[name] = ast.literal_eval(value)
    if "LAYERS" not in found:
        raise SystemExit(f"{path} has no LAYERS")
    return found["LAYERS"], found["INSIDE"]


def show(rows: Sequence[Figure], *, evidence: bool) -> None:
    """Prints the table, and below it what was counted."""
    table = Table("", "value", "bar", "counted", box=None, pad_edge=False, header_style="dim")
    table.columns[1].justify = "right"
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(row.name, f"{row.value:,g}", row.bar, row.how)
    console = Console(width=110, highlight=False)
    console.print(table)
    for row in rows if evidence else ():
        if row.evidence:
            console.print(f"\n{row.name}", *row.evidence, sep="\n  ", soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
