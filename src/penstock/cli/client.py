"""The commands that talk to a server. `--url` and `--api-key`, else the environment, else the `penstock up` of this
directory."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from penstock.cli.context import coroutine
from penstock.cli.filters import PRIORITIES, filtered

if TYPE_CHECKING:
    from penstock.client import AsyncClient
    from penstock.client.transport import OnPause

F = TypeVar("F", bound=Callable[..., Any])

PATIENCE_S = 5.0
"""A person who looks is told soon that nobody answers."""


AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for programs.")


def at_a_server(command: F) -> F:
    """With the options that say where it is."""
    key = click.option(
        "--api-key", envvar="PENSTOCK_API_KEY", help="Its key [PENSTOCK_API_KEY, penstock-data/api-key]."
    )
    url = click.option("--url", envvar="PENSTOCK_URL", help="The server [PENSTOCK_URL, http://127.0.0.1:8000].")
    return url(key(command))


@asynccontextmanager
async def reached(
    url: str | None, api_key: str | None, patience_s: float = PATIENCE_S, on_pause: "OnPause | None" = None
) -> AsyncIterator["AsyncClient"]:
    """The client; what the server refuses is one line and exit status 1, and what cannot be sent to it another."""
    from penstock.client import AsyncClient, PenstockApiError

    try:
        async with AsyncClient(url, api_key, patience_s=patience_s, on_pause=on_pause) as client:
            yield client
    except PenstockApiError as error:
        raise click.ClickException(str(error)) from error
    except UnicodeEncodeError as error:
        raise click.BadParameter(f"{error.object!r} is not UTF-8") from error


def params_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """`k=v` as members of `params`: a value that is JSON is what it says, every other is a string."""
    params: dict[str, Any] = {}
    for pair in pairs:
        name, found, text = pair.partition("=")
        if not found or not name:
            raise click.BadParameter(f"{pair!r} is not of the form name=value", param_hint="--param")
        try:
            params[name] = json.loads(text)
        except ValueError:
            params[name] = text
    return params


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option(
    "-o", "--output", type=click.Path(path_type=Path, file_okay=False), default=Path("out"), show_default=True
)
@click.option("--model", default="superres-x4", show_default=True)
@click.option("--param", "pairs", multiple=True, metavar="K=V", help="Of the model, such as variant=clean; repeatable.")
@click.option("--format", "format_", type=click.Choice(["png", "jpeg", "jpg", "webp"]), help="Of result images [png].")
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG and WebP [90].")
@click.option("--lossless", is_flag=True, help="Of WebP.")
@click.option("--priority", type=PRIORITIES, default="normal", show_default=True)
@click.option("--concurrency", type=click.IntRange(1, 1000), default=16, show_default=True, help="Tasks at a time.")
@click.option("--overwrite", is_flag=True, help="Fetch results again that are there already.")
@AS_JSON
@at_a_server
def submit(
    url: str | None, api_key: str | None, pairs: tuple[str, ...], format_: str | None, quality: int | None,
    lossless: bool, **wish: Any,
) -> None:  # fmt: skip
    """Run files and folders through a model, and fetch the results.

    What is there already is skipped. After Ctrl-C the tasks go on at the server, and the same command takes them up
    again. What fails as every other file would, such as a full disk, a wrong param or a revoked key, ends the run. Exit
    status 1 when a file failed.
    """
    written = {"format": format_, "quality": quality, "lossless": lossless or None}
    said = {name: value for name, value in written.items() if value is not None}

    async def submitting() -> int:
        from penstock.cli.progress_bars import Pauses
        from penstock.cli.submitting import PATIENCE_S, Wish
        from penstock.cli.submitting import submit as run

        asked = Wish(params=params_of(pairs), written=said, **wish)  # type: ignore[arg-type]
        async with reached(
            url, api_key
        ) as client:  # a wrong address is told of soon, a later failure is borne for long
            model = await client.model(asked.model)
        async with reached(url, api_key, PATIENCE_S, Pauses()) as client:
            return await run(client, asked, produces=model.produces)

    sys.exit(_until_stopped(submitting()))


def _until_stopped(work: Coroutine[Any, Any, int]) -> int:
    """The exit status of the work, or what shells have for one that was stopped by Ctrl-C or SIGTERM."""

    async def run() -> int:
        working = asyncio.create_task(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, working.cancel)
        return await working

    try:
        return asyncio.run(run())
    except KeyboardInterrupt:
        by = signal.SIGINT
    except asyncio.CancelledError:
        by = signal.SIGTERM
    click.echo("stopped; the tasks go on at the server, and the same command takes them up again", err=True)
    return 128 + by


@click.command()
@click.argument("task_id")
@AS_JSON
@at_a_server
@coroutine
async def watch(url: str | None, api_key: str | None, task_id: str, as_json: bool) -> None:
    """Follow a task to its end. Exit status 1 when it has no result."""
    from penstock.cli.progress_bars import Pauses
    from penstock.cli.tables import watch as run

    async with reached(url, api_key, 60.0, Pauses()) as client:
        sys.exit(await run(client, task_id, as_json=as_json))


@click.command()
@filtered
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="The newest so many.")
@AS_JSON
@at_a_server
@coroutine
async def ls(url: str | None, api_key: str | None, **filters: Any) -> None:
    """List tasks, newest first."""
    from penstock.cli.tables import ls as run

    async with reached(url, api_key) as client:
        await run(client, **filters)


@click.command()
@click.argument("task_id")
@AS_JSON
@at_a_server
@coroutine
async def show(url: str | None, api_key: str | None, task_id: str, as_json: bool) -> None:
    """Show all that is known of a task."""
    from penstock.cli.tables import show as run

    async with reached(url, api_key) as client:
        run(await client.get(task_id), as_json=as_json)


@click.command()
@click.argument("task_ids", nargs=-1, required=True)
@AS_JSON
@at_a_server
@coroutine
async def cancel(url: str | None, api_key: str | None, task_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel tasks, waiting or running. Exit status 1 when one could not be."""
    from penstock.cli.tables import each_task

    async with reached(url, api_key) as client:
        sys.exit(await each_task(client.cancel, task_ids, as_json=as_json))


@click.command()
@click.argument("task_ids", nargs=-1, required=True)
@AS_JSON
@at_a_server
@coroutine
async def retry(url: str | None, api_key: str | None, task_ids: tuple[str, ...], as_json: bool) -> None:
    """Run tasks again that have no result. Exit status 1 when one could not be."""
    from penstock.cli.tables import each_task

    async with reached(url, api_key) as client:
        sys.exit(await each_task(client.retry, task_ids, as_json=as_json))


@click.command()
@AS_JSON
@at_a_server
@coroutine
async def models(url: str | None, api_key: str | None, as_json: bool) -> None:
    """List the models that are served, with their params."""
    from penstock.cli.tables import models as run

    async with reached(url, api_key) as client:
        run(await client.models(), as_json=as_json)


COMMANDS = (submit, watch, ls, show, cancel, retry, models)
