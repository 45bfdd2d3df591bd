"""Acts on all tasks that match a filter: the options of `penstock cancel`, `retry` and `delete`, and of
`penstock tasks`."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec
from msgspec import Struct

from penstock.cli.client import asks_a_server, of_tenant, reached
from penstock.cli.filters import filtered
from penstock.cli.sections import WholeSentences

if TYPE_CHECKING:
    from penstock.client import AsyncClient

F = TypeVar("F", bound=Callable[..., Any])

ENDS = {"cancel": "canceled", "retry": "queued again", "delete": "deleted"}

STATUSES = {
    "cancel": ("PENDING", "RUNNING"),
    "retry": ("FAILED", "CANCELED", "EXPIRED"),
    "delete": ("SUCCESS", "FAILED", "CANCELED", "EXPIRED"),
}
"""Act -> the statuses in which it can be done, which are meant where none is given."""


def acting(command: F) -> F:
    """Adds the options of an act on all tasks that match, which `Asked` reads."""
    every = click.option("--all", "every", is_flag=True, help="Required if there is no filter but --status.")
    dry = click.option("--dry-run", is_flag=True, help="Show which tasks match, and change nothing.")
    yes = click.option("--yes", is_flag=True, help="Do not ask.")
    return every(dry(yes(command)))


class Asked(Struct, frozen=True):
    """An act on all tasks that match."""

    name: str
    which: dict[str, Any]
    every: bool
    dry_run: bool
    yes: bool

    @classmethod
    def of(cls, name: str, options: dict[str, Any]) -> "Asked":
        """Takes it from the options of a command."""
        return cls(name, options, *(options.pop(option) for option in ("every", "dry_run", "yes")))

    @property
    def is_any(self) -> bool:
        """Whether any of these options was given."""
        return (
            self.every or self.dry_run or self.yes or any(value not in (None, (), {}) for value in self.which.values())
        )

    def check(self) -> None:
        """Raises click.UsageError for an act that would hit all, and does not say so."""
        others = [value for name, value in self.which.items() if name != "status" and value not in (None, {})]
        if not others and not self.every:
            every = "every such task" if self.which["status"] else "every task"
            raise click.UsageError(
                f"this would {self.name} {every}: give ids, or a filter such as --model or --metadata, or --all"
            )


@click.group(cls=WholeSentences)
def tasks() -> None:
    """Cancel, retry or delete all tasks that match a filter."""


def _command_of(name: str) -> click.Command:
    @filtered
    @acting
    @asks_a_server
    async def act(url: str | None, api_key: str | None, as_json: bool, **options: Any) -> None:
        asked = Asked.of(name, options)
        asked.check()
        async with reached(url, api_key) as client:
            await act_on_matching(client, asked, as_json=as_json)

    text = f"{name.capitalize()} all tasks that match. It shows how many match, and asks before it changes them."
    return click.command(name, help=text)(act)


async def act_on_matching(client: "AsyncClient", asked: Asked, *, as_json: bool) -> None:
    """Shows how many tasks match, asks unless it was told not to, and does what is asked."""
    from penstock.cli.whole_ids import whole_batch_id

    which = {**asked.which, "status": asked.which["status"] or STATUSES[asked.name]}
    if which["batch_id"]:
        which["batch_id"] = await whole_batch_id(client, which["batch_id"])
    act = getattr(client, f"{asked.name}_matching")
    hit = await act(dry_run=True, every=asked.every, **which)
    if not asked.dry_run and hit.matched:
        if not asked.yes:
            found = f"{hit.matched} tasks{of_tenant()} ({_some(hit.task_ids)})"
            click.confirm(f"{asked.name.capitalize()} {found}?", abort=True, err=True)
        hit = await act(every=asked.every, **which)
    done = ENDS[asked.name]
    told = f"{hit.matched} would be {done}" if asked.dry_run else f"{hit.changed} {done}"
    click.echo(msgspec.json.encode(hit) if as_json else told)


def _some(task_ids: tuple[str, ...]) -> str:
    return ", ".join(task_ids[:3]) + (", …" if len(task_ids) > 3 else "")


for _name in ENDS:
    tasks.add_command(_command_of(_name))

COMMANDS = (tasks,)
