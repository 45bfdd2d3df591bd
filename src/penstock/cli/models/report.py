"""What `penstock models add` prints: what is known, what was guessed and how to say better, and an answer."""

import json
from collections.abc import Iterable
from itertools import groupby
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.padding import Padding
from rich.table import Column
from rich.text import Text

from penstock.cli.models.adding import Added
from penstock.cli.terminal import console, plain, readable, table
from penstock.models.declared.document import CHANNELS, paths, values_of
from penstock.models.inspection.draft import ModelDraft
from penstock.models.inspection.findings import MemberFinding

MOST_VALUE = 40
"""Characters of a value that are shown; model.toml has all."""
QUIET = frozenset({"kind", "licence", "title"})
FALLBACKS = frozenset({"tensors", "image-to-tensors"})
"""Kinds of which one asks why it is no other."""
NAMED = frozenset({"image-to-labels", "image-to-boxes"})


def print_added(added: Added, *, as_json: bool) -> None:
    """Print the report on a model that was added."""
    if as_json:
        click.echo(msgspec.json.encode(msgspec.to_builtins(added, enc_hook=str)).decode())
        return
    out = console()
    if out.is_terminal:
        _print(out, added)
        return
    with out.capture() as captured:
        _print(out, added)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))  # padded to the width of the console


def _print(out: Console, added: Added) -> None:
    draft = added.draft
    out.print(Text.assemble((f"{added.name}@{added.version}", "bold"), f"  {draft.kind}"))
    out.print(plain(f"takes {_joined(draft.inputs)}, gives {_joined(draft.outputs)}", "dim"))
    _print_findings(out, "said", draft.said)
    quiet = QUIET - {"kind"} if draft.kind in FALLBACKS else QUIET
    _print_findings(out, "known", [found for found in draft.known if found.path not in quiet])
    _print_guesses(out, draft.guessed)
    _print_nameless(out, draft)
    _print_answer(out, draft)
    word = "replaced" if added.replaced else "written"
    out.print(f"\n{word} in {added.took_s:.1f} s: ", plain(readable(added.folder)), sep="")
    out.print(plain(_call(added), "bold"))


def _joined(ports: tuple[str, ...]) -> str:
    shown = ", ".join(ports[:3])
    return shown if len(ports) <= 3 else f"{shown} and {len(ports) - 3} more"


def _print_findings(out: Console, title: str, findings: Iterable[MemberFinding]) -> None:
    """One line for each, with its reason where that is another than that of the line above."""
    rows, before = table(Column(no_wrap=True), Column(), Column()), ""
    rows.show_header = False
    for found in findings:
        why = found.why if found.why != before else ""
        rows.add_row(plain(f"  {found.path}"), plain(shown(found.value)), plain(why, "dim"))
        before = found.why
    if rows.row_count:
        out.print(Text(f"\n{title}", "green"))
        out.print(rows)


def _print_guesses(out: Console, guesses: tuple[MemberFinding, ...]) -> None:
    if not guesses:
        return
    out.print(Text.assemble(("\nguessed", "yellow"), ": each answer says so. Say better, or that it is right, with"))
    for why, together in groupby(guesses, key=lambda found: found.why):
        for found in together:
            said = Text.assemble(f"--set {found.path}=", (shown(found.value), "bold"), _others(found))
            out.print(Padding(said, (0, 0, 0, 2)))
        out.print(Padding(plain(why, "dim"), (0, 0, 0, 6)))
    out.print(Padding(Text("or remove its line from [guessed] in model.toml", "dim"), (0, 0, 0, 2)))


def _print_nameless(out: Console, draft: ModelDraft) -> None:
    named = any(found.path == "output.labels" for found in (*draft.said, *draft.known, *draft.guessed))
    if draft.kind in NAMED and not named:
        out.print(Text.assemble(("\nnot known", "yellow"), ": what its classes are called. Say it, one a line, with"))
        out.print(Padding(Text("--set output.labels=labels.txt"), (0, 0, 0, 2)))


def _others(found: MemberFinding) -> str:
    words = [word for word in values_of(paths()[found.path]) if word != str(found.value)]
    if found.path == "input.colour":
        words = [word for word in words if CHANNELS[word] == CHANNELS[str(found.value)]]
    return f" or {', '.join(words)}" if words and found.path not in ("kind", "output.activation") else ""


def _print_answer(out: Console, draft: ModelDraft) -> None:
    if draft.problem:
        out.print(Text.assemble(("\nno answer", "red"), f": {draft.problem}"))
        return
    out.print(Text.assemble(("\nanswer", "green"), f" to {draft.example} in {draft.answer_s:.2f} s"))
    if draft.answer_file:
        out.print(Padding(plain(draft.answer_file), (0, 0, 0, 2)))
    if draft.answer is not None:
        out.print(Padding(plain(short(draft.answer)), (0, 0, 0, 2)))


def short(value: Any, most: int = 400) -> str:
    """A value as JSON on one line, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= most else f"{text[:most]}…"


def shown(value: Any) -> str:
    """A value as one would say it after `--set`."""
    text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= MOST_VALUE else f"{text[: MOST_VALUE - 1]}…"


def _call(added: Added) -> str:
    name = added.name if added.is_only else f"{added.name}@{added.version}"
    if added.draft.kind == "tensors":
        return f"penstock submit --model {name} --input file=@arrays.npz"
    return f"penstock submit photo.jpg --model {name}"
