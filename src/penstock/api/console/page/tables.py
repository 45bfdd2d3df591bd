"""Tables: on a narrow screen each row becomes a card, whose lines have the names of the columns."""

from collections.abc import Iterable, Sequence

import htpy as h
from msgspec import Struct

NOTHING: tuple[h.Node, ...] = (None, "", False)


class Column(Struct, frozen=True):
    """A column: its name, and whether it has numbers, which stand to the right."""

    title: str
    is_number: bool = False


class TableRow(Struct, frozen=True):
    """A row: its cells in the order of the columns, where Enter leads, and the id by which it is found again after the
    table was loaded anew."""

    cells: Sequence[h.Node]
    link: str = ""
    id: str = ""
    tone: str = ""


def table(
    columns: Sequence[Column | str], rows: Iterable[TableRow], *, caption: str, empty: h.Node = "Nothing here."
) -> h.Node:
    """Return a table that `j` and `k` walk through; what is said in its place when it has no row."""
    made, heads = list(rows), [Column(one) if isinstance(one, str) else one for one in columns]
    if not made:
        return h.div(".empty")[empty]
    return h.div(".table-wrap")[
        h.table(".list")[
            h.caption(".unseen")[caption],
            h.thead[h.tr[[h.th(scope="col", class_=_side(head))[head.title] for head in heads]]],
            h.tbody[[_row(row, heads) for row in made]],
        ]
    ]


def facts(pairs: Iterable[tuple[str, h.Node]]) -> h.Element:
    """Return names and what they stand for, leaving out what is empty."""
    return h.dl(".facts")[[h.div[h.dt[name], h.dd[value]] for name, value in pairs if value not in (*NOTHING, [])]]


def _row(row: TableRow, heads: Sequence[Column]) -> h.Element:
    return h.tr({"data-link": row.link or None, "id": row.id or None}, class_=row.tone or None)[
        [
            # In one piece: on a phone the name of the column stands at the left, and the cell at the right.
            h.td({"data-title": head.title}, class_=_side(head))[h.div[cell] if cell not in NOTHING else None]
            for head, cell in zip(heads, row.cells, strict=True)
        ]
    ]


def _side(head: Column) -> str | None:
    return "number" if head.is_number else None
