"""Draws the overview of a server for a terminal."""

from collections import Counter
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Column
from rich.text import Text

from penstock.cli.tables import memory
from penstock.cli.terminal import filled_table, ids, plain, seconds, state, whole
from penstock.cli.top.overview import Overview
from penstock.client import Queue, Worker

BARS = "▁▂▃▄▅▆▇█"

LINE = 40
"""Paces that are drawn."""

WRONG = 5
"""Sentences about what is wrong that are shown."""


def screen(now: Overview) -> RenderableType:
    """Returns the overview as lines and tables. Queues that are empty and not paused are left out."""
    parts: list[RenderableType] = [_head(now), *_wrong(now), Text(""), _tasks(now), _pace(now)]
    busy = [queue for queue in now.queues if queue.depth or queue.paused]
    parts += [Text(""), _queues(busy) if busy else Text("nothing waits", style="dim")]
    parts += [Text(""), _workers(now.workers) if now.workers else Text("no workers", style="dim")]
    if now.failures:
        parts += [Text(""), _failures(now)]
    return Group(*parts)


def _head(now: Overview) -> Text:
    style = "green" if now.status == "ready" else "red"
    return Text.assemble(plain(now.url, "bold"), "  ", plain(now.status, style), f"  {now.at[11:19]} UTC")


def _wrong(now: Overview) -> Iterator[Text]:
    for sentence in now.wrong[:WRONG]:
        yield plain(f"! {sentence}", "yellow")
    if len(now.wrong) > WRONG:
        yield Text(f"! and {len(now.wrong) - WRONG} more", style="yellow")


def _tasks(now: Overview) -> Text:
    counts = [(plain(f"{count:,} "), state(status), Text("  ")) for status, count in now.tasks.items()]
    return Text.assemble(*(part for count in counts for part in count))


def _pace(now: Overview) -> Text:
    if now.ended_per_s is None:
        return Text("")
    most = max(now.paces) or 1.0
    bars = "".join(BARS[round(pace / most * (len(BARS) - 1))] for pace in now.paces[-LINE:])
    return Text.assemble(
        f"{now.ended_per_s:.1f} ended a second  ", (bars, "cyan"), (f"  most {max(now.paces):.1f}", "dim")
    )


def _queues(queues: list[Queue]) -> RenderableType:
    return filled_table(
        (ids("model"), [plain(queue.model) for queue in queues]),
        (whole("priority"), [plain(queue.priority) for queue in queues]),
        (right("waiting"), [plain(f"{queue.depth:,}") for queue in queues]),
        (right("oldest"), [plain(seconds(queue.oldest_s) if queue.depth else "") for queue in queues]),
        (right("device time"), [plain(seconds(queue.device_s) if queue.device_s else "") for queue in queues]),
        (whole(""), [plain("paused" if queue.paused else "", "yellow") for queue in queues]),
    )


def _workers(workers: tuple[Worker, ...]) -> RenderableType:
    return filled_table(
        (ids("worker"), [plain(worker.id) for worker in workers]),
        (whole("state"), [state(worker.state) for worker in workers]),
        (right("running"), [plain(f"{worker.running}/{worker.slots}") for worker in workers]),
        (right("memory"), [plain(memory(worker)) for worker in workers]),
        ("now", [plain(_stages(worker)) for worker in workers]),
    )


def _stages(worker: Worker) -> str:
    stages = Counter(f"{task.stage} {task.model}" for task in worker.tasks)
    return ", ".join(f"{count} {stage}" for stage, count in stages.most_common())


def _failures(now: Overview) -> Text:
    counts = ", ".join(f"{count} {code}" for code, count in now.failures.items())
    return Text.assemble("failed in the last hour: ", plain(counts, "red"), ("  penstock ls --status failed", "dim"))


def right(name: str) -> Column:
    """Returns a column of numbers."""
    return Column(name, justify="right", no_wrap=True)
