"""Prints batches and their lines as tables on a terminal, or as JSON lines, and fetches results."""

import asyncio
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

import click
import msgspec
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

from penstock.cli.tables import first_of
from penstock.cli.terminal import (
    add_pairs,
    clock,
    console,
    filled_table,
    ids,
    pairs,
    plain,
    say,
    seconds,
    shown_ids,
    state,
    whole,
)
from penstock.client import AsyncClient, Batch, Counts, Line, PenstockApiError
from penstock.client.bounded import as_they_end
from penstock.client.media_types import suffix_of

LOOK_EVERY_S = 1.0

TOGETHER = 8
"""Results that are fetched at a time."""


async def ls(client: AsyncClient, *, limit: int, as_json: bool) -> None:
    """Lists the newest batches, at most `limit`."""
    known = await first_of(client.batches(), limit=limit, as_json=as_json)
    if as_json:
        return
    out = console()
    rows = filled_table(
        (whole("batch"), [plain(one) for one in shown_ids([batch.batch_id for batch in known], out)]),
        (whole("status"), [state(batch.status) for batch in known]),
        (whole("done"), [plain(f"{_ended(batch.counts)}/{batch.counts.total}") for batch in known]),
        ("failed", [plain(str(_without_result(batch.counts) or ""), "red") for batch in known]),
        (whole("left"), [plain("" if batch.eta_s is None else seconds(batch.eta_s)) for batch in known]),
        (whole("created"), [plain(clock(batch.created_at)) for batch in known]),
    )
    out.print(rows if known else "[dim]no batches[/dim]")


def shown(batch: Batch, *, as_json: bool) -> None:
    """Prints everything about a batch."""
    if as_json:
        say(batch)
        return
    rows = pairs()
    for name, value in msgspec.to_builtins(batch).items():
        if name == "status":
            rows.add_row(name, state(value))
        elif name != "progress" or not batch.is_final:
            add_pairs(rows, name, value)
    console().print(rows)


async def follow(client: AsyncClient, batch_id: str, *, as_json: bool) -> int:
    """Follows a batch until it ends, and returns the exit status."""
    out = console(stderr=as_json)
    columns = (TextColumn("{task.description}"), BarColumn(28), TextColumn("{task.fields[note]}"))
    with Progress(*columns, console=out, transient=True, disable=not out.is_terminal) as progress:
        bar = progress.add_task(batch_id[: len("bat_") + 12], note="")
        before = None
        while True:
            batch = await client.get_batch(batch_id)
            progress.update(bar, total=batch.counts.total, completed=_ended(batch.counts), note=_note(batch))
            if as_json and batch != before:
                say(batch)
            if batch.is_final:
                break
            before = batch
            await asyncio.sleep(LOOK_EVERY_S)
    if not as_json:
        shown(batch, as_json=False)
    return 1 if _without_result(batch.counts) else 0


async def results(client: AsyncClient, batch_id: str, output: Path | None, *, only_failed: bool, as_json: bool) -> int:
    """Lists the lines that have ended, of which the last word counts, fetches their results into `output`, and returns
    the exit status."""
    latest = {line.line: line for line in await client.batch_lines(batch_id)}
    lines = [line for _, line in sorted(latest.items()) if not (only_failed and line.status == "SUCCESS")]
    if as_json:
        for line in lines:
            say(line)
    else:
        _print_lines(lines)
    return await _fetch(client, lines, output, as_json=as_json) if output else 0


def _print_lines(lines: Sequence[Line]) -> None:
    out = console()
    named = shown_ids([line.task_id or "" for line in lines], out)
    rows = filled_table(
        (whole("line"), [plain(str(line.line)) for line in lines]),
        (ids("custom_id"), [plain(line.custom_id) for line in lines]),
        (whole("status"), [state(line.status) for line in lines]),
        (whole("task"), [plain(one) for one in named]),
        ("result", [_result(line) for line in lines]),
    )
    out.print(rows if lines else "[dim]no line has ended yet[/dim]")


def _result(line: Line) -> Text:
    if line.error:
        return plain(f"{line.error.code}: {line.error.message}", "red")
    if line.result is None:
        return plain("")
    if line.result.data is not None:
        return plain(msgspec.json.encode(line.result.data).decode())
    size_px = f", {line.result.width} × {line.result.height} px" if line.result.width else ""
    return plain(f"{line.result.content_type or 'deleted'}{size_px}")


async def _fetch(client: AsyncClient, lines: Iterable[Line], output: Path, *, as_json: bool) -> int:
    """Writes the results under their custom ids, with the suffix of their content type."""
    fetched, failed = 0, 0

    async def one(line: Line) -> str | None:
        try:
            await _save(client, line, place_of(output, line))
        except (PenstockApiError, OSError) as error:
            return f"{line.custom_id}: {error}"
        return None

    with_result = [line for line in lines if line.status == "SUCCESS"]
    async for refused in as_they_end(one, with_result, limit=TOGETHER):
        fetched, failed = fetched + (refused is None), failed + (refused is not None)
        if refused:
            click.echo(plain(refused).plain, err=True)
    click.echo(f"{fetched} fetched into {output}" + (f", {failed} failed" if failed else ""), err=as_json)
    return 1 if failed else 0


async def _save(client: AsyncClient, line: Line, target: Path) -> None:
    """Writes the result of a line. Of several files the first is the target, and the others have their names behind its
    own."""
    await asyncio.to_thread(target.parent.mkdir, parents=True, exist_ok=True)
    task_id = line.task_id or ""
    if line.result and len(line.result.files) > 1:
        prefix = f"{target.with_suffix('').name}."
        first, *_ = await client.download_all(task_id, target.parent, prefix=prefix)
        await asyncio.to_thread(first.replace, target)
    else:
        await client.download(task_id, target)


def place_of(output: Path, line: Line) -> Path:
    """Returns the path of the result of a line. Raises OSError for a custom id that leads out of the directory."""
    place = PurePosixPath(line.custom_id)
    if place.is_absolute() or ".." in place.parts or not place.name or "\0" in line.custom_id:
        raise OSError(f"a result cannot be called so; fetch it with its task {line.task_id}")
    suffix = suffix_of(line.result.content_type if line.result and line.result.content_type else "")
    is_of_type = place.suffix.lower() == suffix
    return output / (place if is_of_type else place.with_name(f"{place.name}{suffix}"))


def _ended(counts: Counts) -> int:
    return counts.succeeded + _without_result(counts)


def _without_result(counts: Counts) -> int:
    return counts.failed + counts.canceled + counts.expired


def _note(batch: Batch) -> str:
    left = "" if batch.eta_s is None else f", {seconds(batch.eta_s)} left"
    failed = _without_result(batch.counts)
    return f"{_ended(batch.counts)}/{batch.counts.total} lines{f', {failed} failed' if failed else ''}{left}"
