"""Prints what the code of a package looks like, beside the bars that it is held to.

    python -m tools.house [--source src/penstock] [--layers FILE] [--json] [--list]

A checkout of another day has other folders: `--layers` names its own table, a Python file with `LAYERS = [...]`.
"""

import argparse
import ast
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tools.house.figures import Figure, figures
from tools.house.layers import LAYERS
from tools.house.source import modules_of

SOURCE = Path(__file__).parents[2] / "src" / "penstock"


def main() -> None:
    """Measures one package and prints its figures; always succeeds, the tests hold what must hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=SOURCE, help="the package's folder")
    parser.add_argument("--layers", type=Path, help="a Python file with its LAYERS")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--list", action="store_true", help="list what was counted as well")
    options = parser.parse_args()
    source = options.source.resolve()
    rows = figures(source, layers_in(options.layers) if options.layers else LAYERS, modules_of(source))
    if options.json:
        print(json.dumps([asdict(row) | {"bar": row.bar} for row in rows], indent=1))
    else:
        show(rows, evidence=options.list)


def layers_in(path: Path) -> Sequence[set[str]]:
    """The literal that a file assigns to LAYERS."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if isinstance(target, ast.Name) and target.id == "LAYERS":
                layers: list[set[str]] = ast.literal_eval(node.value)
                return layers
    raise SystemExit(f"{path} has no LAYERS")


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
