"""Progress bars on a terminal: one for each running task, and one for all files with the time that is left."""

import math
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TaskID, TextColumn
from rich.progress import Task as Row
from rich.table import Column
from rich.text import Text

from penstock.cli.terminal import plain
from penstock.client import PenstockApiError, Task

NAME_WIDTH = 28

QUIET_S = 10.0
"""The same reason for a pause is printed at most once in this time."""

PAUSES = {
    "quota_exceeded": "a quota of this tenant is used up, continuing in {s} s",
    "rate_limited": "the server limits the rate, continuing in {s} s",
    "queue_full": "the queue of the server is full, continuing in {s} s",
    "too_many_batches": "other batches of this key are unfinished, continuing in {s} s",
}


class ProgressBars:
    """The bars of one run of `submit`, as a context manager; nothing is drawn if the output is no terminal."""

    def __init__(self, console: Console, *, total: int, skipped: int, output: Path) -> None:
        self._progress = Progress(
            TextColumn("{task.description}", table_column=Column(width=NAME_WIDTH, no_wrap=True)),
            BarColumn(bar_width=28, complete_style="cyan", finished_style="green"),
            TextColumn("{task.fields[note]}", table_column=Column(width=14, no_wrap=True)),
            _Clock(),
            console=console,
            disable=not console.is_terminal,
            transient=True,
            speed_estimate_period=300,
        )
        self._started = time.monotonic()
        self._total, self._skipped, self._output = total, skipped, output
        self._rows: dict[Path, TaskID] = {}
        self._shares: dict[Path, float] = {}
        self._ended = 0
        self._all = self._progress.add_task("[bold]all files", total=total or 1, note=self._count(), is_all=True)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._progress.stop()

    def saw(self, source: Path, task: Task) -> None:
        """Updates the bar of a task, which is shown while the task runs."""
        if task.status != "RUNNING":
            return
        if source not in self._rows:
            name = plain(source.name)
            name.truncate(NAME_WIDTH, overflow="ellipsis")
            self._rows[source] = self._progress.add_task(name.markup, total=1, note="", is_all=False)
        done = task.progress
        if done is None or not done.total:
            self._progress.update(self._rows[source], note=task.stage)
            return
        note = f"{done.done}/{done.total} {done.unit}" if done.done < done.total else task.stage
        self._progress.update(self._rows[source], completed=done.done, total=done.total, note=note)
        self._shares[source] = done.done / done.total
        self._move()

    def ended(self, source: Path) -> None:
        """Removes the bar of a file that is done."""
        self._ended += 1
        self._shares.pop(source, None)
        if row := self._rows.pop(source, None):
            self._progress.remove_task(row)
        self._move()

    def summary(self, *, done: int, failed: int) -> Text:
        """Returns one line for the end; files that are neither done nor failed count as not tried."""
        took_s = time.monotonic() - self._started
        parts = [(f"{done} done", "green")]
        if self._skipped:
            parts.append((f"{self._skipped} skipped (already in {self._output})", "yellow"))
        if failed:
            parts.append((f"{failed} failed", "red"))
        if untried := self._total - done - failed:
            parts.append((f"{untried} not tried", "yellow"))
        return Text(", ").join(Text(*part) for part in parts).append(f"  in {took_s:.1f} s", style="dim")

    def _move(self) -> None:
        self._progress.update(self._all, completed=self._ended + sum(self._shares.values()), note=self._count())

    def _count(self) -> str:
        return f"{self._ended}/{self._total} files"


class Pauses:
    """Prints to stderr why the client pauses, once per pause; to be given to a client as `on_pause`."""

    def __init__(self) -> None:
        self._said: str | None = None
        self._quiet_until = 0.0

    def __call__(self, error: PenstockApiError, pause_s: float) -> None:
        """Is called by the client before it waits for `pause_s` and tries again."""
        now = time.monotonic()
        if error.code == self._said and now < self._quiet_until:
            return
        self._said, self._quiet_until = error.code, now + max(QUIET_S, pause_s)
        line = PAUSES.get(error.code, "{error}; trying again").format(error=plain(error).plain, s=math.ceil(pause_s))
        sys.stderr.write(line + "\n")  # the bars, while they are shown, put it above themselves
        sys.stderr.flush()


class _Clock(ProgressColumn):
    """Shows the time that a task has taken, or the time that all files still need."""

    def render(self, task: Row) -> Text:
        seconds = task.time_remaining if task.fields["is_all"] else task.elapsed
        if seconds is None:
            return Text("")
        minutes, rest = divmod(int(seconds), 60)
        return Text(f"{minutes}:{rest:02d}" + (" left" if task.fields["is_all"] else ""), style="cyan")
