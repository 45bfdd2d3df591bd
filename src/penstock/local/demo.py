"""`penstock demo`: photos go through a real server while a person watches."""

import asyncio
import base64
import tempfile
import time
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import IO, Any

import httpx
import msgspec
from msgspec import Struct
from msgspec.structs import replace
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from penstock.errors import ConfigurationError, PenstockError
from penstock.local.up import Address, everything
from penstock.pixels.headers import ImageBounds, probe
from penstock.settings import Settings

POLL_S = 0.1
"""Pause between two polls of a task; a person sees no difference below this."""


class Row(Struct, kw_only=True):
    """The result of one photo: its scores before and after, and its error, if any."""

    photo: Path
    size: str = ""
    result: Path | None = None
    before: float | None = None
    after: float | None = None
    seconds: float = 0.0
    error: str = ""


async def run_demo(settings: Settings, photos: Sequence[Path], output: Path, *, as_json: bool = False) -> int:
    """Start a server in a temporary directory, run the photos through it, and stop it. Returns the exit status. With
    `as_json` stdout has a line of JSON for each photo, and all else is on stderr."""
    console, started = Console(stderr=as_json), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="penstock-demo-") as home, (Path(home) / "log").open("w+b") as log:
        settings = replace(settings, up=replace(settings.up, data_dir=home))
        try:
            rows = await _serve_and_run(settings, list(photos), output, console, log)
        except ConfigurationError:
            log.seek(0)
            console.print(log.read().decode(), markup=False, highlight=False)
            raise
    for row in rows if as_json else ():
        print(msgspec.json.encode(row, enc_hook=str).decode())  # noqa: T201  it is what the command is for
    console.print(_table(rows))
    console.print(f"[dim]{time.monotonic() - started:.1f} s in all; nothing is left running[/dim]")
    return 1 if any(row.error for row in rows) else 0


async def _serve_and_run(
    settings: Settings, photos: list[Path], output: Path, console: Console, log: IO[bytes]
) -> list[Row]:
    started = time.monotonic()
    console.print("[dim]starting Redis, the API and one worker for each device ...[/dim]")
    async with everything(settings, own_redis=True, log=log) as (supervisor, address):
        console.print(f"ready after {time.monotonic() - started:.1f} s at {address.url}")
        await asyncio.to_thread(output.mkdir, parents=True, exist_ok=True)
        with resources.as_file(resources.files("penstock.models") / "photo.jpg") as bundled:
            work = asyncio.create_task(_run_all(address, photos or [bundled], output, console))
            stopped = asyncio.create_task(supervisor.until_stopped())
            await asyncio.wait([work, stopped], return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
            if not work.done():
                work.cancel()
                raise ConfigurationError("the demo was stopped before its end")
            return work.result()


async def _run_all(address: Address, photos: list[Path], output: Path, console: Console) -> list[Row]:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[stage]}"), TimeElapsedColumn())
    headers = {"x-api-key": address.api_key}
    async with httpx.AsyncClient(base_url=address.url, headers=headers, timeout=30, trust_env=False) as http:
        with Progress(*columns, console=console) as progress:
            return await asyncio.gather(*(_run_one(http, photo, output, progress) for photo in photos))


async def _run_one(http: httpx.AsyncClient, photo: Path, output: Path, progress: Progress) -> Row:
    row, started = Row(photo=photo), time.monotonic()
    bar = progress.add_task(photo.name, total=None, stage="submitted")
    try:
        source = await asyncio.to_thread(photo.read_bytes)
        header = probe(source, ImageBounds())
        scoring = asyncio.create_task(_score(http, source))
        task = await _task(http, {"model": "superres-x4"}, source, lambda view: _show(progress, bar, view))
        upscaled = (await http.get(task["links"]["result"], follow_redirects=True)).raise_for_status().content
        row.result = output / f"{photo.stem}-x4.png"
        await asyncio.to_thread(row.result.write_bytes, upscaled)
        row.size = f"{header.width}×{header.height} → {task['result']['width']}×{task['result']['height']}"
        progress.update(bar, stage="scoring")
        row.before, row.after = await scoring, await _score(http, upscaled)
        progress.update(bar, stage="done", total=1, completed=1)
    except (PenstockError, httpx.HTTPError, _NoResult) as error:
        row.error = str(error)
        progress.update(bar, stage="failed")
    row.seconds = time.monotonic() - started
    return row


class _NoResult(Exception):
    """A task was refused, or ended without a result. The text is that of the server."""


async def _score(http: httpx.AsyncClient, image: bytes) -> float:
    task = await _task(http, {"model": "image-scoring-v1", "priority": "high"}, image, lambda _: None)
    return float(task["result"]["data"]["score"])


async def _task(http: httpx.AsyncClient, body: dict[str, Any], image: bytes, show: Any) -> dict[str, Any]:
    """Submit a task and poll it until it ends. Returns the finished task."""
    uri = f"data:;base64,{base64.b64encode(image).decode()}"
    answer = await http.post("/v1/tasks", json=body | {"input": {"image_url": uri}})
    if answer.is_error:
        raise _NoResult(answer.json().get("detail", answer.text))
    while True:
        view = (await http.get(answer.headers["location"])).raise_for_status().json()
        show(view)
        if view["status"] == "SUCCESS":
            return dict(view)
        if view["status"] not in ("PENDING", "RUNNING"):
            raise _NoResult(f"{view['status']}: {(view['error'] or {}).get('message', 'no result')}")
        await asyncio.sleep(POLL_S)


def _show(progress: Progress, bar: TaskID, view: dict[str, Any]) -> None:
    done = view["progress"]
    if done:
        progress.update(bar, total=done["total"], completed=done["done"], stage=f"tile {done['done']}/{done['total']}")
    else:
        progress.update(bar, stage=view["stage"])


def _table(rows: list[Row]) -> Table:
    table = Table("photo", "pixels", "score", "seconds", "result", box=None, pad_edge=False)
    for row in rows:
        score = f"{row.before:.2f} → {row.after:.2f}" if row.after is not None else ""
        end = f"[red]{row.error}[/red]" if row.error else str(row.result)
        table.add_row(row.photo.name, row.size, score, f"{row.seconds:.1f}", end)
    return table
