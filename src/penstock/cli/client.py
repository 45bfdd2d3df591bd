"""Commands that talk to a server: the one of `--url` and `--api-key`, else that of the environment, else the one that
`penstock up` runs in this directory."""

import asyncio
import errno
import json
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import click

from penstock.cli.context import AS_JSON, coroutine, name_of
from penstock.cli.filters import PRIORITIES
from penstock.cli.written import taken_from, written_as

if TYPE_CHECKING:
    from penstock.client import AsyncClient, Model
    from penstock.client.transport import OnPause

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")

PATIENCE_S = 5.0
"""How long a command that only reads tries to reach the server: a person is waiting for it."""


NOT_READY = "not_ready"
"""The code of a server that does not know its models yet."""

TENANT = "penstock.tenant"
"""Where the context of a command has what `--tenant` says."""


def at_a_server(command: F) -> F:
    """Adds the options `--url` and `--api-key`."""
    key = click.option(
        "--api-key", envvar="PENSTOCK_API_KEY", help="API key [PENSTOCK_API_KEY, penstock-data/api-key]."
    )
    url = click.option(
        "--url",
        envvar="PENSTOCK_URL",
        help="Address of the server [PENSTOCK_URL, penstock-data/url, http://127.0.0.1:8000].",
    )
    return url(key(command))


def in_a_tenant(command: F) -> F:
    """Adds the option `--tenant`; `reached` and `tenant_of_call` read it."""

    def remember(context: click.Context, option: click.Parameter, value: str | None) -> None:
        context.meta[TENANT] = name_of(context, option, value)

    help_ = "Name of another tenant, for a key with the scope operate [that of the key]."
    return click.option("--tenant", callback=remember, expose_value=False, help=help_)(command)


def asks_a_server(command: Callable[P, Any]) -> Callable[P, None]:
    """Adds what most commands about the work of a tenant have, `--json`, `--tenant`, `--url` and `--api-key`, and runs
    the coroutine."""
    return AS_JSON(in_a_tenant(at_a_server(coroutine(command))))


def tenant_of_call() -> str | None:
    """The tenant that `--tenant` names, or None."""
    named: str | None = click.get_current_context().meta.get(TENANT)
    return named


def of_tenant() -> str:
    """The words of a question that name the tenant, where `--tenant` does."""
    tenant = tenant_of_call()
    return f" of the tenant {tenant}" if tenant else ""


@asynccontextmanager
async def reached(
    url: str | None, api_key: str | None, patience_s: float = PATIENCE_S, on_pause: "OnPause | None" = None
) -> AsyncIterator["AsyncClient"]:
    """Yields a client for the server. A refusal of the server, or a file that cannot be read or written, ends the
    command with one line and exit status 1, and an argument that cannot be sent ends it with exit status 2."""
    from penstock.cli.advice import advised
    from penstock.client import AsyncClient, PenstockApiError
    from penstock.client.requests import EmptyName

    try:
        tenant = tenant_of_call()
        async with AsyncClient(url, api_key, tenant=tenant, patience_s=patience_s, on_pause=on_pause) as client:
            yield client
    except PenstockApiError as error:
        raise advised(error) from error
    except UnicodeEncodeError as error:
        raise click.BadParameter(f"{error.object!r} is not UTF-8") from error
    except EmptyName as error:
        raise click.BadParameter(str(error)) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # click ends a command whose output nobody reads any more
            raise
        raise click.ClickException(str(error)) from error


def params_of(pairs: tuple[str, ...]) -> dict[str, Any]:
    """Parses `name=value` pairs to the members of `params`; a value that is not valid JSON counts as a string.

    Raises click.BadParameter for a pair without a name or without `=`.
    """
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
@click.argument("paths", nargs=-1, type=click.Path(exists=True, path_type=Path))
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Member of the model's input: NAME=@FILE, NAME=URL or NAME=JSON; repeatable.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("out"),
    show_default=True,
    help="Directory of the results.",
)
@click.option("--model", default="superres-x4", show_default=True, help="Name, or name@version.")
@click.option(
    "--param", "pairs", multiple=True, metavar="K=V", help="Parameter of the model, such as variant=clean; repeatable."
)
@written_as
@click.option("--priority", type=PRIORITIES, default="normal", show_default=True, help="Which tasks come first.")
@click.option(
    "--concurrency", type=click.IntRange(1, 1000), default=16, show_default=True, help="Number of tasks at a time."
)
@click.option("--overwrite", is_flag=True, help="Fetch results again that exist already.")
@click.option("--sample", is_flag=True, help="Run the photo that comes with Penstock, too.")
@AS_JSON
@at_a_server
def submit(url: str | None, api_key: str | None, pairs: tuple[str, ...], sample: bool, **members: Any) -> None:
    """Run files and folders through a model, and fetch the results.

    Each file is a task; members that --input names are the same for all of them. With --input alone there is one task.
    Files whose result of the same request exists already are skipped. After Ctrl-C the tasks go on at the server, and
    the same command continues with them. An error that every other file would meet too, such as a full disk, a wrong
    param or a revoked key, ends the run. The exit status is 1 if a file failed.
    """
    if sample:
        members["paths"] = (*members["paths"], Path(str(resources.files("penstock.models") / "photo.jpg")))
    if not members["paths"] and not members["inputs"]:
        raise click.UsageError("give files or folders, or the members of the input by --input")
    written = taken_from(members)

    async def submitting() -> int:
        from penstock.cli.progress_bars import Pauses
        from penstock.cli.run_plan import SubmitOptions
        from penstock.cli.submitting import PATIENCE_S
        from penstock.cli.submitting import submit as run

        options = SubmitOptions(params=params_of(pairs), written=written, **members)
        model = await _model_at_once(url, api_key, options.model)
        async with reached(url, api_key, PATIENCE_S, Pauses()) as client:
            return await run(client, options, model or await client.model(options.model))

    sys.exit(_until_stopped(submitting()))


async def _model_at_once(url: str | None, api_key: str | None, name: str) -> "Model | None":
    """Returns the model with little patience, since a wrong address should show at once; None from a server whose first
    worker is still on its way."""
    from penstock.client import PenstockApiError

    async with reached(url, api_key) as client:
        try:
            return await client.model(name)
        except PenstockApiError as error:
            if error.code != NOT_READY:
                raise
    return None


def _until_stopped(work: Coroutine[Any, Any, int]) -> int:
    """Runs the work; its exit status, or 128 + signal number after Ctrl-C or SIGTERM, as shells have it."""

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
    click.echo("stopped; the tasks go on at the server, and the same command continues with them", err=True)
    return 128 + by


COMMANDS = (submit,)
