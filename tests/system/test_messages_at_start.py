"""What an operator reads when Redis or the storage cannot be used: each fault in words of its own, with what to change,
from every command, and no secret in any of them."""

import http.server
import json
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import redis

from penstock.cli.doctor.redis import check_redis
from penstock.cli.doctor.storage import check_storage
from penstock.local.deaths import EXIT_CONFIGURATION
from penstock.settings import RedisSettings, Settings, StorageSettings, clean_environment
from tests.support.processes import Process
from tests.support.redis_server import RedisProcess, free_port
from tests.support.set_up_servers import Certificates, certificates, redis_with, tls_options

SECRET = "a-secret-that-nobody-may-see"
WITHIN_S = 60.0
ENVIRON = {
    "API_KEYS": "tester:0123456789abcdef",
    "GPU_IDS": "cpu",
    "PENSTOCK_MODELS_MODULES": "penstock.models.noop",
    "PENSTOCK_MODELS_SERVE": "noop-v1",
    "PENSTOCK_TELEMETRY_METRICS_PORT": "0",
    "COLUMNS": "400",
}

WORDS = {
    "missing password": "wants a password; set redis.password, or redis.url as redis://:PASSWORD@host:port",
    "wrong password": "refuses the user or the password; correct redis.password, or redis.url",
    "password not wanted": "has no password; take it out of redis.password or redis.url",
    "protected mode": "is in protected mode, which lets only its own machine in; set requirepass",
    "unknown CA": "has a certificate that is not trusted here; name the file of its CA in redis.tls_ca",
    "another host": "has a certificate for another host; put the host that it is for into redis.url",
    "no client certificate": "wants a client certificate that it trusts; name it in redis.tls_certificate",
    "no CA file": "a file that redis.url names is not there; check its socket, or redis.tls_ca",
    "plain to TLS": "broke the connection off; see whether it runs, begin redis.url with rediss:// if its port",
    "TLS to plain": "does not take a connection in time; check host and port in redis.url, and that rediss:// goes to",
    "refused": "refuses connections; start Redis, or check host and port",
    "unknown host": "the host of the task store has no address; check the host in redis.url",
    "no socket": "a file that redis.url names is not there; check its socket",
    "no database": "has no database of this number; change the number at the end of redis.url",
    "out of memory": "refuses writes: its memory is full; raise maxmemory of Redis, or delete tasks",
    "no Redis": "what answers is no Redis; check host and port",
    "another node": "has our keys on another node; set redis.url to redis+cluster://host1,host2",
    "no cluster": "is no cluster; begin redis.url with redis://",
    "a server for a sentinel": "what redis.url names is no sentinel; name the sentinels (port 26379), or begin",
    "no sentinel": "the sentinels that answer name no master that is up; wait for their failover, or correct the name",
}
"""Kind of failure -> what is said of it, and what to change."""

SETTINGS = {
    "missing password",
    "wrong password",
    "password not wanted",
    "protected mode",
    "unknown CA",
    "no database",
    "another host",
    "no client certificate",
    "another node",
    "no cluster",
    "a server for a sentinel",
}
"""What only another setting mends: the process does not start."""


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def url(fault: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Of a Redis that has the fault."""
    with _faulty(fault, tmp_path, request) as found:
        yield found


@contextmanager
def _faulty(fault: str, directory: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    if fault in ("missing password", "wrong password"):
        with redis_with(directory, "--requirepass", SECRET) as port:
            yield f"redis://127.0.0.1:{port}" if fault == "missing password" else f"redis://:{SECRET}2@127.0.0.1:{port}"
    elif fault in ("unknown CA", "no CA file", "plain to TLS"):
        with redis_with(directory, *tls_options(request.getfixturevalue("tls"))) as port:
            scheme, query = {"plain to TLS": ("redis", ""), "unknown CA": ("rediss", "")}.get(
                fault, ("rediss", "?ssl_ca_certs=/no/such/ca.crt")
            )
            yield f"{scheme}://:{SECRET}@127.0.0.1:{port}{query}"
    elif fault in ("another host", "no client certificate"):
        made: Certificates = request.getfixturevalue("tls")
        wanted = ("--tls-auth-clients", "yes") if fault == "no client certificate" else ()
        with redis_with(directory, *tls_options(made), *wanted) as port:
            host = "localhost" if fault == "another host" else "127.0.0.1"
            yield f"rediss://:{SECRET}@{host}:{port}?ssl_ca_certs={made.ca}"
    elif fault == "protected mode":
        own = _own_address()
        with redis_with(directory, "--bind", "0.0.0.0") as port:
            yield f"redis://{own}:{port}"
    elif fault == "out of memory":
        with redis_with(directory, "--maxmemory", "1") as port:
            yield f"redis://127.0.0.1:{port}"
    elif fault == "another node":
        with _cluster(directory) as port:
            yield f"redis://127.0.0.1:{port}"
    elif fault == "no Redis":
        with _http_server() as (port, _):
            yield f"redis://127.0.0.1:{port}"
    elif fault in ("password not wanted", "TLS to plain", "no database", "no cluster", "a server for a sentinel"):
        with redis_with(directory) as port:
            yield {
                "password not wanted": f"redis://:{SECRET}@127.0.0.1:{port}",
                "TLS to plain": f"rediss://:{SECRET}@127.0.0.1:{port}",
                "no database": f"redis://127.0.0.1:{port}/77",
                "no cluster": f"redis+cluster://127.0.0.1:{port}",
                "a server for a sentinel": f"redis+sentinel://127.0.0.1:{port}/the-master",
            }[fault]
    else:
        yield {
            "refused": f"redis://:{SECRET}@127.0.0.1:{free_port()}",
            "no sentinel": f"redis+sentinel://:{SECRET}@127.0.0.1:{free_port()}/the-master",
            "unknown host": f"redis://:{SECRET}@no-such-host.invalid:6379",
            "no socket": f"unix://{directory}/none.sock",
        }[fault]


def _own_address() -> str:
    """One of this machine that is not of its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this machine has no address but that of its loopback")
        address = str(probe.getsockname()[0])
    return address if not address.startswith("127.") else pytest.skip("this machine has its loopback only")


@contextmanager
def _cluster(directory: Path) -> Iterator[int]:
    """The port of a node that knows of another one, which has all slots."""
    for name in ("here", "there"):
        (directory / name).mkdir()
    buses = (free_port(), free_port())
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "60000", "--cluster-port")
    with (
        redis_with(directory / "here", *options, str(buses[0])) as here,
        redis_with(directory / "there", *options, str(buses[1])) as there,
    ):
        with redis.Redis(port=here) as one, redis.Redis(port=there) as other:
            other.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            one.execute_command("CLUSTER MEET", "127.0.0.1", there, buses[1])
            give_up = time.monotonic() + WITHIN_S
            while one.execute_command("CLUSTER INFO")["cluster_state"] != "ok":
                assert time.monotonic() < give_up, one.execute_command("CLUSTER INFO")
                time.sleep(0.05)
        yield here


@contextmanager
def _http_server(tls: Certificates | None = None, status: int = 400) -> Iterator[tuple[int, list[str]]]:
    """The port of a server of HTTP, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked.append(self.path)
            self.send_error(status)

        do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = do_CONNECT = _answer  # noqa: N815  the library's names

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls.certificate, tls.key)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port, asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def running(here: Path, *arguments: str, **environ: str) -> Iterator[Process]:
    """A command, ended at the end."""
    process = Process([*arguments], {"PENSTOCK_UP_DATA_DIR": str(here / "data")} | ENVIRON | environ, here / "log")
    try:
        yield process
    finally:
        process.stop(signal.SIGKILL)


def said(process: Process, words: str) -> str:
    """The log, once the words are in it."""
    give_up = time.monotonic() + WITHIN_S
    while words not in (log := process.log.read_text()):
        assert time.monotonic() < give_up, log
        time.sleep(0.05)
    return log


USUAL = {"wrong password", "no CA file", "out of memory"}
"""A process is started for each of these: at the connection, before it, and at a write. Doctor meets every fault, in
this process; the words are the same."""


@pytest.mark.parametrize(
    "fault", [pytest.param(one, marks=() if one in USUAL else pytest.mark.at_length) for one in WORDS]
)
def test_the_api_says_in_words_of_its_own_why_redis_cannot_be_used(fault: str, url: str, tmp_path: Path) -> None:
    port = free_port()
    with running(tmp_path, "api", "--port", str(port), REDIS_URL=url) as process:
        log = said(process, WORDS[fault])
        if fault in SETTINGS:
            assert process.popen.wait(WITHIN_S) == EXIT_CONFIGURATION
            assert "Traceback" not in log
        else:
            answer = _answered(f"http://127.0.0.1:{port}/readyz")
            assert answer.status_code == 503
            assert answer.json()["detail"].startswith("redis: ")

    assert SECRET not in log


@pytest.mark.parametrize(
    "fault",
    [
        "wrong password",
        "out of memory",
        *(pytest.param(one, marks=pytest.mark.at_length) for one in ("unknown CA", "refused", "another node")),
    ],
)
def test_a_worker_and_up_say_it_too(fault: str, url: str, tmp_path: Path) -> None:
    (tmp_path / "worker").mkdir()
    with (
        running(tmp_path, "up", "--port", "0", "--json", REDIS_URL=url) as up,
        running(tmp_path / "worker", "worker", REDIS_URL=url) as worker,
    ):
        logs = said(up, WORDS[fault]) + said(worker, WORDS[fault])
        if fault in SETTINGS:
            assert up.popen.wait(WITHIN_S) == worker.popen.wait(WITHIN_S) == EXIT_CONFIGURATION
        logs += up.log.read_text() + worker.log.read_text()

    assert SECRET not in logs
    assert '"api_key"' not in logs


@pytest.mark.parametrize("fault", WORDS)
async def test_doctor_says_it_and_what_to_change(fault: str, url: str) -> None:
    (found,) = [one async for one in check_redis(Settings(redis=RedisSettings(url=url)))]

    assert found.state == "fail"
    if fault == "no client certificate" and "broke the connection off" in found.found:
        # Redis closes right behind its alert, which is lost to a client that has sent its first command by then.
        assert "name a client certificate in redis.tls_certificate if it wants one" in found.advice
        return
    what, advice = WORDS[fault].split("; ")
    assert what in found.found
    assert advice in found.advice
    assert SECRET not in str(found)


@pytest.mark.at_length
def test_the_command_doctor_shows_what_it_has_found_and_no_secret(tmp_path: Path, tls: Certificates) -> None:
    with _storage("unknown CA", tls) as environ, redis_with(tmp_path, "--requirepass", SECRET) as port:
        asked = subprocess.run(
            [sys.executable, "-m", "penstock", "doctor", "--json"],
            cwd=tmp_path,
            env=clean_environment() | ENVIRON | environ | {"REDIS_URL": f"redis://:{SECRET}2@127.0.0.1:{port}"},
            capture_output=True,
            text=True,
            check=False,
        )
    findings = {finding["check"]: finding for finding in map(json.loads, asked.stdout.splitlines())}

    assert asked.returncode == 1
    assert WORDS["wrong password"].split("; ")[0] in findings["redis"]["found"]
    assert STORAGE_WORDS["unknown CA"] in findings["storage"]["found"]
    assert SECRET not in asked.stdout + asked.stderr
    assert "Traceback" not in asked.stderr


def _answered(url: str) -> httpx.Response:
    give_up = time.monotonic() + WITHIN_S
    while True:
        try:
            return httpx.get(url, timeout=10, trust_env=False)
        except httpx.TransportError:
            assert time.monotonic() < give_up, url
            time.sleep(0.05)


@pytest.mark.at_length
@pytest.mark.parametrize("command", ["api", pytest.param("worker", marks=pytest.mark.at_length)])
def test_a_password_with_a_slash_is_not_shown_as_a_port(command: str, tmp_path: Path) -> None:
    with running(tmp_path, command, REDIS_URL=f"redis://:{SECRET}/tail@127.0.0.1:6379") as process:
        assert process.popen.wait(WITHIN_S) == EXIT_CONFIGURATION
        log = process.log.read_text()

    assert "have to be percent-encoded" in log
    assert SECRET not in log


def metrics_on(port: int) -> dict[str, str]:
    return {"PENSTOCK_API_METRICS_PORT": str(port)}


def test_a_metrics_port_that_is_taken_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with running(tmp_path, "api", **metrics_on(port)) as process:
            assert process.popen.wait(WITHIN_S) == EXIT_CONFIGURATION
            assert f"api.metrics_port: cannot listen on 127.0.0.1:{port}" in process.log.read_text()


def test_readyz_names_a_full_redis_and_is_ready_again_when_there_is_room(
    own_redis: RedisProcess, tmp_path: Path
) -> None:
    port, metrics_port = free_port(), free_port()
    with (
        running(tmp_path, "api", "--port", str(port), REDIS_URL=own_redis.url, **metrics_on(metrics_port)),
        redis.Redis.from_url(own_redis.url) as client,
    ):
        ready = f"http://127.0.0.1:{port}/readyz"
        assert _once(ready, 200)["redis"] == "ok"
        assert "penstock_http_requests" in _answered(f"http://127.0.0.1:{metrics_port}/metrics").text
        assert _answered(f"http://127.0.0.1:{port}/metrics").status_code == 404
        client.config_set("maxmemory", "1")
        full = _once(ready, 503)
        client.config_set("maxmemory", "0")
        _once(ready, 200)

    assert full["code"] == "not_ready"
    assert "redis: the task store refuses writes: its memory is full" in full["detail"]


def _once(url: str, status: int) -> dict[str, str]:
    give_up = time.monotonic() + WITHIN_S
    while (answer := _answered(url)).status_code != status:
        assert time.monotonic() < give_up, answer.text
        time.sleep(0.05)
    return dict(answer.json())


STORAGE_WORDS = {
    "unknown CA": "its certificate is not trusted here: set AWS_CA_BUNDLE to a PEM file",
    "no CA file": "the file of trusted CAs cannot be read: AWS_CA_BUNDLE must name a file",
    "plain to TLS": "it breaks connections: see its log; if its port speaks TLS, storage.s3_endpoint must begin with https://",
    "TLS to plain": "its port does not speak TLS: let storage.s3_endpoint begin with http://",
    "refused": "it refuses connections: start it, or check host and port in storage.s3_endpoint",
    "unknown host": "its host name does not resolve: check the host in storage.s3_endpoint",
}


@contextmanager
def _storage(fault: str, tls: Certificates) -> Iterator[dict[str, str]]:
    with _endpoint(fault, tls) as endpoint:
        yield {
            "USE_LOCAL_STORAGE": "false",
            "PENSTOCK_STORAGE_S3_ENDPOINT": endpoint,
            "PENSTOCK_STORAGE_S3_BUCKET": "penstock",
            "PENSTOCK_STORAGE_S3_ACCESS_KEY": "a-key-for-tests",
            "PENSTOCK_STORAGE_S3_SECRET_KEY": SECRET,
        }


@contextmanager
def _endpoint(fault: str, tls: Certificates) -> Iterator[str]:
    with _http_server(tls) as (secure, _), _http_server() as (plain, _):
        yield {
            "plain to TLS": f"http://127.0.0.1:{secure}",
            "TLS to plain": f"https://127.0.0.1:{plain}",
            "refused": f"http://127.0.0.1:{free_port()}",
            "unknown host": "http://no-such-host.invalid:9000",
        }.get(fault, f"https://127.0.0.1:{secure}")


@pytest.mark.parametrize("fault", STORAGE_WORDS)
async def test_doctor_says_in_words_of_its_own_why_the_storage_cannot_be_used(
    fault: str, tls: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fault == "no CA file":
        monkeypatch.setenv("AWS_CA_BUNDLE", "/no/such/ca.crt")
    with _endpoint(fault, tls) as endpoint:
        keys = {"s3_access_key": "a-key-for-tests", "s3_secret_key": SECRET}
        settings = StorageSettings(local=False, s3_endpoint=endpoint, s3_bucket="penstock", **keys)
        (found,) = [one async for one in check_storage(Settings(storage=settings))]

    assert found.state == "fail"
    assert STORAGE_WORDS[fault] in found.found
    assert SECRET not in str(found)


@pytest.mark.at_length
@pytest.mark.parametrize("fault", ["refused", pytest.param("unknown CA", marks=pytest.mark.at_length)])
def test_up_says_what_is_missing_while_its_storage_is_away_and_prints_no_address_when_stopped(
    fault: str, tls: Certificates, tmp_path: Path
) -> None:
    with _storage(fault, tls) as environ, running(tmp_path, "up", "--port", "0", "--json", **environ) as process:
        while not any("not ready yet" in line for line in said(process, STORAGE_WORDS[fault]).splitlines()):
            time.sleep(0.05)
        status = process.stop(signal.SIGTERM)

    assert status == 0
    assert '"api_key"' not in process.log.read_text()
    assert SECRET not in process.log.read_text()


@pytest.mark.at_length
def test_up_asks_no_proxy_for_what_is_on_this_machine(tmp_path: Path) -> None:
    with _http_server(status=502) as (port, asked):
        proxy = f"http://127.0.0.1:{port}"
        names = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")
        proxies = dict.fromkeys(names, proxy) | {"NO_PROXY": "", "no_proxy": ""}
        with running(tmp_path, "up", "--port", "0", "--json", **proxies) as process:
            log = said(process, '"api_key"')
            address = json.loads(next(line for line in log.splitlines() if '"api_key"' in line))
            metrics = httpx.get(address["metrics_url"], trust_env=False, timeout=10).text
            process.stop()

    assert 'process="api"' in metrics
    assert 'process="worker-cpu' in metrics
    assert asked == []
