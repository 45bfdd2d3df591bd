"""Says why a task is not done yet."""

from collections.abc import Iterator

from rich.text import Text

from penstock.cli.terminal import console, plain, say, seconds, short, state
from penstock.client import Explanation
from penstock.client.views import LIVE


def explain(found: Explanation, *, as_json: bool) -> None:
    """Prints it in sentences, or as a line of JSON."""
    if as_json:
        say(found)
        return
    console().print(*_sentences(found), sep="\n")


def _sentences(found: Explanation) -> Iterator[Text]:
    yield Text.assemble(plain(f"{found.task_id} is "), state(found.status), plain(_at(found)))
    if found.status not in LIVE:
        yield plain(f"it has ended: penstock show {found.task_id}")
        return
    if found.queue_position is not None:
        yield plain(_ahead(found))
    for blocker in found.blockers:
        until = f" until {short(blocker.until)} UTC" if blocker.until else ""
        of_task = f" ({blocker.task_id})" if blocker.task_id else ""
        yield plain(f"it waits: {blocker.detail}{until}{of_task}", "yellow")
    if found.workers:
        yield plain(f"workers that can run it: {', '.join(worker.id for worker in found.workers)}")
    yield plain(_end(found))


def _at(found: Explanation) -> str:
    return "" if found.stage.upper() == found.status or found.status not in LIVE else f", stage {found.stage}"


def _ahead(found: Explanation) -> str:
    tasks, device_s = found.ahead.tasks, found.ahead.device_s
    if not tasks:
        return "it is the next of its model"
    work = "" if device_s is None else f", about {seconds(device_s)} of the device"
    return f"{tasks} {'task is' if tasks == 1 else 'tasks are'} ahead of it{work}"


def _end(found: Explanation) -> str:
    if found.eta_s is None:
        return "nobody can tell when it will be done"
    return f"it should be done in {seconds(found.eta_s)}"
