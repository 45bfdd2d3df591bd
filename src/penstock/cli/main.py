"""The command group `penstock`, and the commands that run servers. What these import stays in memory for as long as the
servers run: the other commands are in `penstock.cli.others`."""

import asyncio
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from penstock import __version__, collector, service_manager
from penstock.cli.context import AS_JSON, coroutine, models_of_call, settings_of_call, with_own_models
from penstock.cli.sections import SectionedGroup
from penstock.errors import ConfigurationError, StoppedEarly
from penstock.lazy_import import lazy_import
from penstock.settings import Settings

if TYPE_CHECKING:
    from penstock.local.spares import SpareProcess

deaths = lazy_import("penstock.local.deaths")

EXIT_INTERRUPTED = 130
"""Exit status that shells give a command which Ctrl-C ended."""

API_SERVICE, WORKER_SERVICE = "penstock-api", "penstock-worker"
"""The names of services in traces, where OTEL_SERVICE_NAME gives none."""

PATH = click.Path(path_type=Path)
PROCESSES = click.option("--processes", type=click.IntRange(1), help="Processes of the API, one for each core [1].")


def main() -> None:
    """Runs the command line. A wrong setting prints one line and exits with status 78."""
    try:
        cli.main(prog_name="penstock", standalone_mode=True)
    except ConfigurationError as error:
        click.echo(f"penstock: {error}", err=True)
        sys.exit(deaths.EXIT_CONFIGURATION)
    except StoppedEarly:
        click.echo("penstock: stopped before it was ready", err=True)
        sys.exit(EXIT_INTERRUPTED)


@click.group(
    cls=SectionedGroup,
    others="penstock.cli.others",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__)
@click.option("--config", type=click.Path(path_type=Path), envvar="PENSTOCK_CONFIG", help="TOML file with settings.")
def cli(config: Path | None) -> None:
    """Penstock: post a task, get an id at once, collect the result. GPU inference behind a queue."""


@cli.command()
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on; 0 takes a free one [8000].")
@PROCESSES
@click.option("--data-dir", type=click.Path(), help="Directory of queue, objects and API key [penstock-data].")
@click.option("--json", "as_json", is_flag=True, help="Print one line {url, metrics_url, api_key} when ready.")
@click.option("--show-key", is_flag=True, help="Print the API key too, and not only where it is.")
@with_own_models
def up(
    host: str | None,
    port: int | None,
    processes: int | None,
    data_dir: str | None,
    as_json: bool,
    show_key: bool,
    models: tuple[str, ...],
    reload: bool,
) -> None:
    """Run everything on this machine: Redis, the API and one worker per device."""
    from penstock.cli.greeting import greeting
    from penstock.local.reload import reloading
    from penstock.local.spares import Spares, fork_spares, import_shared
    from penstock.local.up import everything
    from penstock.telemetry.logs import set_up_logs

    import_shared()
    workers = fork_spares(1, main)  # before the settings are read: a worker must not know the secrets of the API
    free_metrics_port = 0 if port == 0 else None  # who asks for a free port wants one for the metrics too
    settings = settings_of_call(
        api_host=host,
        api_port=port,
        api_processes=processes,
        up_data_dir=data_dir,
        telemetry_metrics_port=free_metrics_port,
    )
    settings = models_of_call(settings, models, reload=reload)
    set_up_logs(settings.telemetry, process="up")
    spares = Spares(api=_spares_of_api(settings), workers=workers)

    async def run() -> None:
        async with everything(settings, own_redis=_wants_own_redis(settings), spares=spares) as (supervisor, address):
            hello = greeting(address, settings, show_key=show_key)
            click.echo(msgspec.json.encode(address).decode() if as_json else hello)
            async with reloading(supervisor, settings.models.modules) if reload else nullcontext():
                await service_manager.told(supervisor.until_stopped())
        sys.exit(supervisor.exit_status)

    with suppress(StoppedEarly):  # Ctrl-C before it is ready is no failure
        asyncio.run(run())


@cli.command()
@click.argument("photos", nargs=-1, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path(), help="Directory of the results [.].")
@AS_JSON
@coroutine
async def demo(photos: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Upscale a photo (the bundled one, or yours), score it before and after, and leave nothing running."""
    from penstock.local.demo import run_demo

    settings = settings_of_call(api_port=0, telemetry_metrics_port=0)
    sys.exit(await run_demo(settings, photos, output, as_json=as_json))


@cli.command()
@click.option("--model", default="superres-x4", show_default=True, help="Model; noop-v1 measures the server itself.")
@click.option("--images", multiple=True, type=PATH, help="Image or directory, repeatable [six of 256 to 1024 px].")
@click.option(
    "--clients", type=click.IntRange(1), help="Closed loop: this many clients, each waiting for its task [8]."
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Open loop: tasks per second; inf is a burst.")
@click.option("--tasks", type=click.IntRange(1), help="End after this many tasks [12].")
@click.option("--duration", type=click.FloatRange(0, min_open=True), help="End after this many seconds.")
@click.option("--priority-mix", default="normal=1", show_default=True, help="Shares, such as high=1,normal=3.")
@click.option("--wait", is_flag=True, help="Wait for the end in the submit instead of polling.")
@click.option(
    "--batch",
    type=click.IntRange(0),
    is_flag=False,
    flag_value=0,
    metavar="[LINES]",
    help="Send batches of this many lines [as many as one request takes].",
)
@click.option("--bare/--no-bare", default=None, help="Measure the bare loop too [yes, except for noop-v1].")
@click.option("--url", help="A running server [the command starts one and stops it].")
@click.option("--api-key", help="API key [the first of API_KEYS].")
@click.option("--metrics-url", help="Metrics of its workers [URL/metrics, which has only those of the API].")
@click.option("--json", type=PATH, help="Write all figures to this file.")
@click.option("--plot", type=PATH, help="Draw stages and device over time to this .svg or .png.")
@coroutine
async def bench(**options: Any) -> None:
    """Put load on a server, and print throughput, latencies and costs beside a loop without a server."""
    from penstock.bench.plan import plan_of
    from penstock.bench.run import run_bench

    sys.exit(await run_bench(settings_of_call(api_port=0, telemetry_metrics_port=0), plan_of(**options)))


@cli.command("bare-loop", hidden=True)
@click.option("--model", required=True)
@click.option("--device", required=True)
@click.argument("directory", type=PATH)
def bare_loop(model: str, device: str, directory: Path) -> None:
    """Run the loop without a server. `bench` starts this command."""
    from penstock.bench.bare import serve_bare_loop
    from penstock.local.up import device_of

    serve_bare_loop(settings_of_call(), model, device_of(device), directory)


@cli.command()
@click.option("--host", help="Address to listen on [127.0.0.1].")
@click.option("--port", type=int, help="Port to listen on [8000].")
@PROCESSES
def api(host: str | None, port: int | None, processes: int | None) -> None:
    """Run the HTTP API."""
    collector.begin_start()
    from penstock.telemetry.logs import set_up_logs

    settings = settings_of_call(api_host=host, api_port=port, api_processes=processes)
    set_up_logs(settings.telemetry, process="api")
    if settings.api.processes > 1:
        from penstock.local.api_processes import serve_api

        collector.end_start()
        sys.exit(asyncio.run(serve_api(settings, _spares_of_api(settings))))
    from penstock.api.serve import serve
    from penstock.telemetry.traces import tracing

    _serve_metrics_apart(settings)
    with tracing(API_SERVICE, "api"):
        serve(settings)


@cli.command("api-process", hidden=True)
@click.option("--name", required=True)
@click.option("--listen-fd", "listen_fds", type=int, multiple=True)
@click.option("--metrics-of-all", required=True)
@click.option("--report-fd", type=int)
def api_process(name: str, listen_fds: tuple[int, ...], metrics_of_all: str, report_fd: int | None) -> None:
    """Run one process of the API. `up` and `api` start this command."""
    collector.begin_start()
    from penstock.api.serve import Supervised, serve
    from penstock.local.api_processes import LOOPBACK, PATIENCE
    from penstock.telemetry import exposition
    from penstock.telemetry.logs import set_up_logs
    from penstock.telemetry.traces import tracing
    from penstock.worker.heartbeat import Heartbeat

    settings = settings_of_call()
    set_up_logs(settings.telemetry, process=name)
    supervised = Supervised(
        listen_fds=listen_fds,
        metrics_url=f"http://{LOOPBACK}:{exposition.serve_metrics(LOOPBACK, 0)}/metrics",
        metrics_of_all=metrics_of_all,
        parent=Heartbeat(report_fd, silence_s=PATIENCE.silence_s),
    )
    with tracing(API_SERVICE, name):
        serve(settings, supervised)


@cli.command()
@with_own_models
@coroutine
async def worker(models: tuple[str, ...], reload: bool) -> None:
    """Run one worker process per device of this host, and restart those that end."""
    from penstock.local.reload import reloading
    from penstock.local.supervisor import Supervisor
    from penstock.local.up import add_workers, serve_metrics
    from penstock.telemetry.logs import set_up_logs

    settings = models_of_call(settings_of_call(), models, reload=reload)
    set_up_logs(settings.telemetry, process="worker")
    supervisor = Supervisor()
    supervisor.stop_on_signals()
    try:
        await add_workers(settings, supervisor)
        serve_metrics(settings, supervisor)
        async with reloading(supervisor, settings.models.modules) if reload else nullcontext():
            await service_manager.told(supervisor.until_stopped())
    except StoppedEarly:  # nor is this a failure
        return
    finally:
        await supervisor.close()
    if supervisor.failure:
        click.echo(f"penstock: {supervisor.failure}", err=True)
    sys.exit(supervisor.exit_status)


@cli.command("worker-process", hidden=True)
@click.option("--device", required=True)
@click.option("--id", "worker_id", required=True)
@click.option("--report-fd", type=int)
def worker_process(device: str, worker_id: str, report_fd: int | None) -> None:
    """Run one worker process. `up` and `worker` start this command."""
    collector.begin_start()
    from penstock.local.up import device_of
    from penstock.telemetry.logs import set_up_logs
    from penstock.telemetry.traces import tracing
    from penstock.worker.process import run

    settings = settings_of_call()
    on = device_of(device)
    set_up_logs(settings.telemetry, process=f"worker-{on.name}")
    try:
        with tracing(WORKER_SERVICE, f"worker-{on.name}"):
            sys.exit(run(settings, on, worker_id=worker_id, report_fd=report_fd))
    except ConfigurationError:
        if report_fd is None:
            raise
        sys.exit(deaths.EXIT_CONFIGURATION)  # the parent has been told why, and says it once


@cli.command()
def openapi() -> None:
    """Print the OpenAPI document."""
    from penstock.api.app import openapi_document
    from penstock.models import load_runners
    from penstock.models.description import descriptions
    from penstock.settings import ModelSettings

    click.echo(openapi_document(descriptions(load_runners(ModelSettings()))))


def _serve_metrics_apart(settings: Settings) -> None:
    from penstock.telemetry import exposition

    host, port = settings.telemetry.metrics_host, settings.api.metrics_port
    if port:
        try:
            exposition.serve_metrics(host, port)
        except OSError as error:
            raise ConfigurationError(f"api.metrics_port: cannot listen on {host}:{port}: {error.strerror}") from error


def _spares_of_api(settings: Settings) -> "list[SpareProcess]":
    """Processes for the API, which share what is imported here; where they are several, all that it imports."""
    from penstock.local.spares import fork_spares, import_shared

    if settings.api.processes > 1:
        import_shared("penstock.api.serve")
    return fork_spares(settings.api.processes, main)


def _wants_own_redis(settings: Settings) -> bool:
    return settings.redis.url == type(settings.redis)().url
