"""Where do the milliseconds of one task go, when the server has nothing else to do?

    python -m tools.one_photo [--requests 300] [--model noop-v1] [--image FILE] [--json FILE]

Starts a Redis with the persistence of `penstock up`, an API and a worker, whose functions in `HOPS` note when they are
called and when they return, and sends submits with `Prefer: wait`, one after the other with a pause between them. The
table has a row for each hop on the way from the last byte of the request to the first byte of the answer: its median,
its mean, and its mean among the slowest hundredth of the requests, which is where the 99th percentile comes from. The
clock is that of the kernel, which all processes share; noting a moment takes 2 µs.
"""

import argparse
import atexit
import base64
import functools
import importlib
import inspect
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from penstock.api.serve import serve
from penstock.local.children import die_with_parent
from penstock.local.redis_server import redis_child
from penstock.settings import clean_environment, load
from penstock.telemetry.logs import set_up_logs
from penstock.worker.devices import cpu
from penstock.worker.process import run
from tests.support.drive import data_uri, image
from tests.support.redis_server import free_port

API_KEY = "a-key-only-for-one-photo"
LOG = "ONE_PHOTO_LOG"
WARM_UP = 30
PAUSE_S = 0.02
READY_WITHIN_S = 60.0

SENT, ANSWERED = "request sent", "answer begins at the client"


class Hop(NamedTuple):
    """A function of a process, and the names of the moments in which it is called and returns; none is noted for an
    empty name."""

    process: str
    module: str
    function: str
    called: str = ""
    returned: str = ""


HOPS = (
    Hop("api", "penstock.api.http.request_context", "RequestContext.__call__", "api: head read"),
    Hop("api", "penstock.api.routes.tasks", "call_of", "api: body read"),
    Hop("api", "penstock.intake.enqueue", "examine", returned="api: request checked"),
    Hop("api", "penstock.intake.enqueue", "put", "api: input announced", "api: input stored"),
    Hop("api", "penstock.store.tasks", "TaskStore.submit", "api: submit asked"),
    Hop("worker", "penstock.worker.claims", "Claims.look", "worker: woken"),
    Hop("worker", "penstock.store.leases", "LeaseStore.claim", "worker: claim asked", "worker: claimed"),
    Hop("worker", "penstock.worker.pipeline", "Pipeline.run", "worker: attempt begun"),
    Hop("worker", "penstock.worker.inputs", "Inputs.collect", "worker: fetch begun", "worker: input there"),
    Hop("worker", "penstock.worker.pipeline", "prepared_by", "worker: on a thread", "worker: prepared"),
    Hop("worker", "penstock.worker.decoders.decoder", "Decoder.decode", "worker: decode begun", "worker: decoded"),
    Hop("worker", "penstock.worker.batcher.scheduler", "DeviceScheduler.run", "worker: for the device"),
    Hop("worker", "penstock.worker.batcher.device_runs", "DeviceRuns.infer", "device: begun", "device: done"),
    Hop("worker", "penstock.worker.pipeline", "Pipeline._pack", "worker: encode begun", "worker: encoded"),
    Hop("worker", "penstock.worker.spool", "Spool.put", "worker: store begun", "worker: result stored"),
    Hop("worker", "penstock.store.leases", "LeaseStore.complete", "worker: complete asked"),
    Hop("api", "penstock.api.waiting", "Waiting._wake", "api: end heard"),
    Hop("api", "penstock.api.waiting", "Waiting.wait", returned="api: request goes on"),
    Hop("api", "penstock.store.tasks", "TaskStore.get", "api: record asked", "api: record read"),
    Hop("api", "penstock.api.routes.tasks", "_view", returned="api: view made"),
    Hop("api", "penstock.api.http.request_context", "_Exchange.send_message", "api: answer encoded"),
)


class Moment(NamedTuple):
    """A moment with its name, in nanoseconds of the kernel's monotonic clock."""

    at: int
    name: str


def main() -> None:
    """Measure and print the table, or be one of the processes that are measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--model", default="noop-v1")
    parser.add_argument("--image", type=Path, help="a PNG or JPEG [a PNG of a few pixels]")
    parser.add_argument("--json", type=Path, help="write the moments of all requests to this file")
    parser.add_argument("--process", choices=["api", "worker"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.process:
        be(options.process)
        return
    load_before = os.getloadavg()[0]
    sent = body_of(options.model, options.image)
    with tempfile.TemporaryDirectory(prefix="one-photo-") as home:
        with servers(Path(home), options.model) as port:
            spans = [*asked(port, sent, options.requests)]
        moments = sorted(moment for process in ("api", "worker") for moment in noted(Path(home) / process))
    requests = [*by_request(spans, moments)]
    show(requests, load_before)
    if options.json:
        options.json.write_text(json.dumps(requests) + "\n")


# --- the processes that are measured --------------------------------------------------------------------------


def be(process: str) -> None:
    """Serve as this process of the server, and note the moments of its hops."""
    moments: list[Moment] = []
    for hop in HOPS:
        if hop.process == process:
            probe(hop, moments)
    atexit.register(lambda: Path(os.environ[LOG]).write_text(json.dumps(moments)))
    settings = load(None)
    set_up_logs(settings.telemetry, process=process)
    if process == "api":
        serve(settings)
    else:
        run(settings, cpu(), worker_id="one-photo", report_fd=None)


def probe(hop: Hop, moments: list[Moment]) -> None:
    """Replace the function of a hop by one that notes when it is called and when it returns."""
    place: Any = importlib.import_module(hop.module)
    *path, name = hop.function.split(".")
    for part in path:
        place = getattr(place, part)
    function: Callable[..., Any] = getattr(place, name)

    def note(moment: str) -> None:
        if moment:
            moments.append(Moment(time.monotonic_ns(), moment))

    async def awaited(*args: Any, **options: Any) -> Any:
        note(hop.called)
        try:
            return await function(*args, **options)
        finally:
            note(hop.returned)

    def called(*args: Any, **options: Any) -> Any:
        note(hop.called)
        try:
            return function(*args, **options)
        finally:
            note(hop.returned)

    setattr(place, name, functools.wraps(function)(awaited if inspect.iscoroutinefunction(function) else called))


def noted(log: Path) -> Iterator[Moment]:
    """Yield the moments of a process that has ended."""
    yield from (Moment(*moment) for moment in json.loads(log.read_text()))


# --- one request after the other ------------------------------------------------------------------------------


@contextmanager
def servers(home: Path, model: str) -> Iterator[int]:
    """Run Redis, an API and a worker, and return the port of the API."""
    redis, url = redis_child(home)
    port = free_port()
    environ = clean_environment() | {
        "PENSTOCK_API_PORT": str(port),
        "PENSTOCK_API_KEYS": f"one:{API_KEY}",
        "PENSTOCK_API_RATE_LIMIT_PER_MINUTE": "0",
        "PENSTOCK_API_LINGER_S": "0",
        "PENSTOCK_MODELS_SERVE": model,
        "PENSTOCK_REDIS_URL": url,
        "PENSTOCK_STORAGE_DIRECTORY": str(home / "objects"),
    }
    if model == "noop-v1":
        environ["PENSTOCK_MODELS_MODULES"] = "penstock.models.noop"
    with ExitStack() as stack:
        stack.enter_context(running(redis.launch().argv, {}, home / "redis.log"))
        for process in ("api", "worker"):
            command = [sys.executable, "-m", "tools.one_photo", "--process", process]
            stack.enter_context(running(command, environ | {LOG: str(home / process)}, home / f"{process}.log"))
        yield port


@contextmanager
def running(command: Sequence[str], environ: dict[str, str], log: Path) -> Iterator[None]:
    """Run a process inside of this block; its log goes to a file, as behind a log collector."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, env=environ, stderr=out, preexec_fn=die_with_parent)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def body_of(model: str, path: Path | None) -> bytes:
    """Return the JSON of a submit with this image in it."""
    uri = data_uri(image()) if path is None else f"data:;base64,{base64.b64encode(path.read_bytes()).decode()}"
    return json.dumps({"model": model, "input": {"image_url": uri}, "reuse": False}).encode()


def asked(port: int, body: bytes, count: int) -> Iterator[tuple[int, int]]:
    """Submit so many tasks and yield, for each, when its request was sent and when its answer began."""
    head = (
        f"POST /v1/tasks HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {API_KEY}\r\nPrefer: wait=30\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with connected(port) as client:
        first_until(client, head.encode() + body)
        for number in range(WARM_UP + count):
            time.sleep(PAUSE_S)
            span, answer = exchange(client, head.encode() + body)
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise SystemExit(f"one_photo: {answer.decode()}")
            if number >= WARM_UP:
                yield span


def first_until(client: socket.socket, request: bytes) -> None:
    """Submit until a worker is there that runs it."""
    give_up = time.monotonic() + READY_WITHIN_S
    while not exchange(client, request)[1].startswith(b"HTTP/1.1 200 "):
        if time.monotonic() > give_up:
            raise SystemExit(f"one_photo: no result within {READY_WITHIN_S:g} s")
        time.sleep(0.2)


@contextmanager
def connected(port: int) -> Iterator[socket.socket]:
    """Yield a connection to the API, as soon as that listens."""
    give_up = time.monotonic() + READY_WITHIN_S
    while True:
        try:
            client = socket.create_connection(("127.0.0.1", port))
            break
        except OSError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)
    with client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield client


def exchange(client: socket.socket, request: bytes) -> tuple[tuple[int, int], bytes]:
    """Send a request; return when its last byte was given to the kernel, when the first of the answer came, and the
    answer."""
    client.sendall(request)
    sent_at = time.monotonic_ns()
    answer = client.recv(65536)
    span = sent_at, time.monotonic_ns()
    while b"\r\n\r\n" not in answer:
        answer += client.recv(65536)
    head, _, body = answer.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-len"))
    while len(body) < length:
        body += client.recv(65536)
    return span, head + body


# --- the table ------------------------------------------------------------------------------------------------


def by_request(spans: Sequence[tuple[int, int]], moments: Sequence[Moment]) -> Iterator[dict[str, float]]:
    """Yield for each request the milliseconds that each hop took, in the order of `HOPS`, by the name of the moment in
    which it ends. Of a moment that is noted several times the first one counts that comes after the hop before."""
    order = [name for hop in HOPS for name in (hop.called, hop.returned) if name]
    at = 0
    for sent, answered in spans:
        while at < len(moments) and moments[at].at < sent:
            at += 1
        within: dict[str, list[int]] = {}
        while at < len(moments) and moments[at].at <= answered:
            within.setdefault(moments[at].name, []).append(moments[at].at)
            at += 1
        hops, before = {}, sent
        for name in order:
            later = [moment for moment in within.get(name, ()) if moment >= before]
            if later:
                hops[name], before = (later[0] - before) / 1e6, later[0]
        yield hops | {ANSWERED: (answered - before) / 1e6}


def show(requests: Sequence[dict[str, float]], load_before: float) -> None:
    """Print the table as Markdown."""
    slowest = sorted(requests, key=lambda hops: sum(hops.values()))[-max(1, len(requests) // 100) :]
    totals = sorted(sum(hops.values()) for hops in requests)
    p50, p99 = statistics.median(totals), totals[int(len(totals) * 0.99)]
    print(f"{len(requests)} requests, load average before {load_before:.2f}\n")
    print("| until | median, ms | mean | of the slowest hundredth |\n| --- | ---: | ---: | ---: |")
    for name in dict.fromkeys(name for hops in requests for name in hops):
        of_all, of_slow = ([hops.get(name, 0.0) for hops in some] for some in (requests, slowest))
        row = (statistics.median(of_all), statistics.fmean(of_all), statistics.fmean(of_slow))
        print(f"| {name} | " + " | ".join(f"{value:.2f}" for value in row) + " |")
    of_slowest = statistics.fmean(sum(hops.values()) for hops in slowest)
    print(f"| **all** | **{p50:.2f}** | **{statistics.fmean(totals):.2f}** | **{of_slowest:.2f}** |")
    print(f"\np99 {p99:.2f} ms, {p99 / p50:.2f} times the median")


if __name__ == "__main__":
    main()
