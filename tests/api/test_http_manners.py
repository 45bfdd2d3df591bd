"""The server as proxies, browsers and plain HTTP clients meet it: HEAD, Host, links, refusals, the ends of connections.

Each server is a process of its own, and is spoken to over sockets where a client library would be too polite.
"""

import json
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from penstock.api.serving.lingering import LINGER_BYTES, LINGER_S
from penstock.core.task import Outcome, Result
from penstock.settings import ApiSettings, RedisSettings, Settings, StorageSettings
from penstock.storage import Storage, open_storage
from penstock.store import Store
from tests.support import redis_server
from tests.support.api_server import ServerProcess
from tests.support.drive import body, claim, complete

pytestmark = pytest.mark.shared_server

NAMESPACE = "test-http-manners"
PUBLIC = "https://api.example.com/penstock"


@pytest.fixture(scope="module")
def own(redis_url: str, api_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """For a server of the whole module: what is asked of it leaves nothing behind that matters."""
    yield Settings(
        api=ApiSettings(keys=(f"default:{api_key}",), rate_limit_per_minute=0, linger_s=0, docs="on", metrics="on"),
        redis=RedisSettings(url=redis_url, namespace=NAMESPACE),
        storage=StorageSettings(directory=str(tmp_path_factory.mktemp("objects"))),
    )
    redis_server.remove_namespace(redis_url, NAMESPACE)


@pytest.fixture(scope="module")
def url(own: Settings) -> Iterator[str]:
    with ServerProcess(own) as server:
        yield server.url


@pytest.fixture
def client(url: str, api_key: str) -> Iterator[httpx.Client]:
    with client_of(url, api_key) as opened:
        yield opened


def client_of(url: str, api_key: str, **headers: str) -> httpx.Client:
    return httpx.Client(base_url=url, headers={"X-API-Key": api_key} | headers, timeout=60, trust_env=False)


@contextmanager
def connected(url: str) -> Iterator[socket.socket]:
    at = httpx.URL(url)
    with socket.create_connection((at.host, at.port or 0), timeout=60) as connection:
        yield connection


def exchange(url: str, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body of the answer to these bytes; the connection is read to its end."""
    with connected(url) as connection:
        connection.sendall(request)
        return parsed(b"".join(iter(lambda: connection.recv(65_536), b"")))


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, rest = answer.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return int(first.split(" ")[1]), {n.lower(): v for n, _, v in (line.partition(": ") for line in lines)}, rest


# --- HEAD -----------------------------------------------------------------------------------------------------

OPEN = ("/", "/livez", "/readyz", "/startupz", "/metrics", "/docs", "/docs/start.js", "/schema/openapi.json")
VARYING = {"date", "x-request-id", "content-length", "retry-after"}


def alike(headers: httpx.Headers) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name not in VARYING}


@pytest.mark.parametrize("path", [*OPEN, "/nowhere", "/v1/tasks", "/v1/models", "/v1/stats", "/v1/tasks/tsk_1"])
def test_head_is_answered_as_get_without_a_body(client: httpx.Client, path: str) -> None:
    head, got = client.head(path), client.get(path)

    assert (head.status_code, head.content) == (got.status_code, b"")
    assert alike(head.headers) == alike(got.headers)
    if "content-length" in got.headers and path not in ("/metrics", "/readyz", "/v1/stats"):
        assert head.headers["content-length"] == got.headers["content-length"]


async def test_head_of_a_result_says_what_a_download_would_be(
    settings: Settings, store: Store, storage: Storage, api_key: str
) -> None:
    with ServerProcess(settings) as server, client_of(server.url, api_key) as client:
        path = client.post("/v1/tasks", json=body()).headers["Location"]
        file = await complete(store, storage, bytes(3_000_000))

        answer = client.head(f"{path}/result")
        again = client.get(f"{path}/result", headers={"If-None-Match": answer.headers["ETag"]})

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == "3000000"
    assert answer.headers["ETag"] == f'"{file.sha256}"'
    assert again.status_code == 304


def test_head_of_a_stream_of_events_ends(client: httpx.Client) -> None:
    path = client.post("/v1/tasks", json=body()).headers["Location"]

    answers = [client.head(f"{path}/events") for _ in range(3)]  # over one connection

    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].headers["Content-Type"].startswith("text/event-stream")


def test_head_is_among_the_methods_of_what_can_be_got(client: httpx.Client) -> None:
    options = client.options("/v1/tasks").headers["Allow"]
    refused = client.delete("/livez").headers["Allow"]
    posted = client.head("/v1/tasks/tsk_1/cancel")

    assert options == "GET, HEAD, OPTIONS, POST"
    assert refused == "GET, HEAD, OPTIONS"
    assert (posted.status_code, posted.headers["Allow"]) == (405, "OPTIONS, POST")


# --- If-None-Match --------------------------------------------------------------------------------------------


async def test_a_client_that_has_a_result_hears_so_also_when_it_is_in_a_bucket(
    settings: Settings,
    s3_server: StorageSettings,
    store: Store,
    api_key: str,
) -> None:
    remote = msgspec.structs.replace(settings, storage=s3_server)
    with ServerProcess(remote) as server, client_of(server.url, api_key) as client:
        async with open_storage(s3_server, settings.redis.namespace) as storage:
            path = client.post("/v1/tasks", json=body()).headers["Location"]
            file = await complete(store, storage, b"bytes of a result")
        first = client.get(f"{path}/result")
        known = client.get(f"{path}/result", headers={"If-None-Match": f'"{file.sha256}"'})
        other = client.get(f"{path}/result", headers={"If-None-Match": '"another"'})

    assert (first.status_code, first.headers["ETag"]) == (302, f'"{file.sha256}"')
    assert (known.status_code, known.headers["ETag"], known.content) == (304, f'"{file.sha256}"', b"")
    assert other.status_code == 302


async def test_a_client_that_has_a_result_of_data_hears_so_too(settings: Settings, store: Store, api_key: str) -> None:
    with ServerProcess(settings) as server, client_of(server.url, api_key) as client:
        path = client.post("/v1/tasks", json=body(model="image-scoring-v1")).headers["Location"]
        await store.leases.complete(await claim(store), Outcome(result=Result(data={"score": 5.5})))
        first = client.get(f"{path}/result")
        known = client.get(f"{path}/result", headers={"If-None-Match": first.headers["ETag"]})

    assert (first.status_code, first.json()) == (200, {"score": 5.5})
    assert (known.status_code, known.content) == (304, b"")


# --- Host and links -------------------------------------------------------------------------------------------

HOSTS = {
    "none": b"",
    "two": b"Host: a.example\r\nHost: b.example\r\n",
    "two that are alike": b"Host: a.example\r\nHost: a.example\r\n",
    "an empty one": b"Host:\r\n",
    "a port that is no number": b"Host: a.example:http\r\n",
    "a port that is too large": b"Host: a.example:65536\r\n",
    "a user": b"Host: me@a.example\r\n",
    "a path": b"Host: a.example/v1\r\n",
    "a blank": b"Host: a.example b.example\r\n",
    "a quote": b'Host: a.example"><script>\r\n',
    "no ASCII": b"Host: \xe4.example\r\n",
    "a bad address": b"Host: [::1::]\r\n",
}


@pytest.mark.parametrize("path", ["/livez", "/v1/tasks", "/nowhere"])
@pytest.mark.parametrize("case", HOSTS)
def test_a_host_header_is_refused_for(url: str, api_key: str, case: str, path: str) -> None:
    request = b"GET %b HTTP/1.1\r\nX-API-Key: %b\r\nConnection: close\r\n%b\r\n"
    status, headers, answer = exchange(url, request % (path.encode(), api_key.encode(), HOSTS[case]))

    problem = json.loads(answer)
    assert (status, problem["code"], problem["param"]) == (400, "malformed_request", "Host")
    assert headers["content-type"] == "application/problem+json"


def test_a_client_of_http_1_0_needs_no_host(url: str) -> None:
    status, _, _ = exchange(url, b"GET /livez HTTP/1.0\r\n\r\n")

    assert status == 200


def upload_url(client: httpx.Client, **headers: str) -> str:
    return str(client.post("/v1/uploads", json={"size": 1}, headers=headers).json()["url"])


@pytest.mark.parametrize("host", ["images.example.com", "penstock_api:8080", "[2001:db8::1]:8000", "192.0.2.1", "a:"])
def test_links_lead_to_the_host_that_was_asked(client: httpx.Client, host: str) -> None:
    assert upload_url(client, Host=host).startswith(f"http://{host.removesuffix(':')}/v1/uploads/upl_")


LIES = {
    "Forwarded": "proto=https;host=evil.example",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Port": "666",
    "X-Forwarded-For": "127.0.0.1",
}


@pytest.mark.parametrize("header", LIES)
def test_a_client_that_is_no_trusted_proxy_is_not_believed(client: httpx.Client, header: str) -> None:
    link = upload_url(client, Host="a.example", **{header: LIES[header]})

    assert link.startswith("http://a.example/v1/")


@pytest.fixture(scope="module")
def behind_a_proxy(own: Settings) -> Iterator[str]:
    api = msgspec.structs.replace(own.api, trusted_proxies=("192.0.2.0/24", "127.0.0.0/8"))
    with ServerProcess(msgspec.structs.replace(own, api=api)) as server:
        yield server.url


FORWARDED: dict[str, tuple[dict[str, str], str]] = {
    "the scheme": ({"X-Forwarded-Proto": "https"}, "https://a.example"),
    "the host": ({"X-Forwarded-Host": "b.example:81"}, "http://b.example:81"),
    "both": ({"X-Forwarded-Proto": "https", "X-Forwarded-Host": "b.example"}, "https://b.example"),
    "the last of several": ({"X-Forwarded-Host": "evil.example, b.example"}, "http://b.example"),
    "a port": ({"X-Forwarded-Proto": "https", "X-Forwarded-Port": "8443"}, "https://a.example:8443"),
    "the usual port": ({"X-Forwarded-Proto": "https", "X-Forwarded-Port": "443"}, "https://a.example"),
    "Forwarded": ({"Forwarded": "for=192.0.2.9;proto=https;host=b.example"}, "https://b.example"),
    "Forwarded in quotes": ({"Forwarded": 'For="[2001:db8::1]:5"; Host="b.example:81"'}, "http://b.example:81"),
    "the last Forwarded": (
        {"Forwarded": "host=evil.example;proto=http, for=192.0.2.9;proto=https;host=b.example"},
        "https://b.example",
    ),
    "Forwarded, not the other": (
        {"Forwarded": "proto=https;host=b.example", "X-Forwarded-Host": "evil.example"},
        "https://b.example",
    ),
    "nothing": ({}, "http://a.example"),
}


@pytest.mark.parametrize("case", FORWARDED)
def test_a_trusted_proxy_is_believed_when_it_says(behind_a_proxy: str, api_key: str, case: str) -> None:
    headers, origin = FORWARDED[case]
    with client_of(behind_a_proxy, api_key, Host="a.example") as client:
        assert upload_url(client, **headers).startswith(f"{origin}/v1/uploads/")


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Forwarded-Host", "a.example/x"),
        ("X-Forwarded-Proto", "javascript"),
        ("X-Forwarded-Port", "http"),
        ("Forwarded", "host=b.example;;;,=x"),
        ("Forwarded", 'host="b.example'),
        ("Forwarded", "host=b.example:99999"),
    ],
)
def test_what_a_trusted_proxy_says_is_checked_too(behind_a_proxy: str, api_key: str, header: str, value: str) -> None:
    with client_of(behind_a_proxy, api_key, Host="a.example") as client:
        answer = client.get("/v1/tasks", headers={header: value})

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed_request")


async def test_every_link_is_made_from_the_public_url(
    settings: Settings, store: Store, storage: Storage, api_key: str
) -> None:
    api = msgspec.structs.replace(settings.api, public_url=f"{PUBLIC}/")
    with ServerProcess(msgspec.structs.replace(settings, api=api)) as server, client_of(server.url, api_key) as client:
        submitted = client.post("/v1/tasks", json=body())
        path = f"/v1/tasks/{submitted.json()['task_id']}"
        await complete(store, storage, b"bytes of a result")
        batch = client.post("/v1/batches", json={"lines": [{"custom_id": "1", **body()}]})
        upload = client.post("/v1/uploads", json={"size": 1})
        prediction = client.get(f"/replicate/{path}".replace("/v1/tasks", "v1/predictions"))
        found = [
            submitted.headers["Location"],
            batch.headers["Location"],
            upload.headers["Location"],
            upload.json()["url"],
            client.get(path).json()["result"]["url"],
            client.get("/v1/tasks").json()["data"][-1]["result"]["url"],
            *prediction.json()["urls"].values(),
            client.get("/replicate/v1/predictions").json()["results"][-1]["output"],
            *(server["url"] for server in client.get("/schema/openapi.json").json()["servers"]),
        ]
        docs = client.get("/docs").text
        pages = re.findall(r'(?:href|src)="([^"]+)"', docs)

    assert [link for link in found if not link.startswith(PUBLIC)] == []
    assert [page for page in pages if not page.startswith("/penstock/docs/")] == []
    assert 'data-prefix="/penstock"' in docs, "below it start.js looks for the document"


# --- methods and paths ----------------------------------------------------------------------------------------

ODD_METHODS = (
    "TRACE", "COPY", "LOCK", "MKCOL", "MOVE", "PROPFIND", "PROPPATCH", "SEARCH", "UNLOCK", "BIND", "REBIND", "UNBIND",
    "ACL", "REPORT", "MKACTIVITY", "CHECKOUT", "MERGE", "M-SEARCH", "NOTIFY", "SUBSCRIBE", "UNSUBSCRIBE", "PURGE",
    "MKCALENDAR", "LINK", "UNLINK", "SOURCE",
)  # fmt: skip


def series(client: httpx.Client) -> set[str]:
    lines = client.get("/metrics").text.splitlines()
    return {line.rpartition(" ")[0] for line in lines if line.startswith("penstock_http_requests")}


def test_methods_that_no_route_has_are_one_label_of_the_metrics(client: httpx.Client) -> None:
    client.request("TRACE", "/livez")
    client.get("/metrics")
    before = series(client)

    statuses = {client.request(method, "/livez").status_code for method in ODD_METHODS}

    assert statuses == {405}
    assert series(client) - before == set()
    assert any('method="other"' in one for one in before)


PATHS = ("/v1/tasks/", "//v1/tasks", "/v1//tasks", "/v1/%2e%2e/v1/tasks", "/v1/%2e/tasks", "/V1/tasks", "/v1/tasks%2f",
         "/v1/tasks;a=b", "/./v1/tasks", "/v1/../v1/tasks", "/v1/tasks%00", "/%76%31/tasks")  # fmt: skip


@pytest.mark.parametrize("path", PATHS)
def test_te3_no_form_of_a_path_gets_past_the_key(url: str, path: str) -> None:
    status, _, _ = exchange(url, b"GET %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % path.encode())

    assert status in (401, 404)


@pytest.mark.parametrize("header", ["X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"])
def test_te3_a_header_does_not_change_the_method(client: httpx.Client, header: str) -> None:
    path = client.post("/v1/tasks", json=body()).headers["Location"]

    answer = client.get(path, headers={header: "DELETE"})

    assert (answer.status_code, client.get(path).status_code) == (200, 200)


@pytest.mark.parametrize("header", ["X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path", "X-Forwarded-Prefix"])
def test_te3_a_header_does_not_change_the_path(url: str, header: str) -> None:
    assert httpx.get(f"{url}/v1/tasks", headers={header: "/livez"}).status_code == 401


# --- what cannot be read --------------------------------------------------------------------------------------

KEY = b"X-API-Key: %b\r\nContent-Type: application/json\r\n"
UNREADABLE = {
    "a folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n",
    "a line that ends without a carriage return": b"GET / HTTP/1.1\nHost: a\r\n\r\n",
    "chunks twice": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunks that are none": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n",
    "no HTTP": b"\x16\x03\x01 hello\r\n\r\n",
    "a method that there is not": b"FETCH / HTTP/1.1\r\nHost: a\r\n\r\n",
    "a version that there is not": b"GET / HTTP/9.9\r\nHost: a\r\n\r\n",
    "bytes in the path": b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "a header with a blank": b"GET / HTTP/1.1\r\nHo st: a\r\n\r\n",
    "a length that is no number": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    "a length and chunks": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a header without an end": b"GET / HTTP/1.1\r\nX: " + b"x" * 300_000,
    "too many headers": b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 50_000 + b"\r\n",
    "a thousand headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: x\r\n" * 1_000 + b"\r\n",
    "a long path": b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "a chunk without a size": (
        b"POST /v1/tasks HTTP/1.1\r\nHost: a\r\n" + KEY + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n"
    ),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_ht2_a_refusal_is_a_problem_document_also_for(url: str, api_key: str, case: str) -> None:
    request = UNREADABLE[case]
    status, headers, answer = exchange(url, request.replace(b"%b", api_key.encode()))

    problem = json.loads(answer)
    assert (status, problem["status"], problem["code"]) == (400, 400, "malformed_request")
    assert headers["content-type"] == "application/problem+json"
    assert headers["x-request-id"] == problem["request_id"]
    assert headers["connection"] == "close"


# --- the ends of connections ----------------------------------------------------------------------------------

EARLY: dict[str, tuple[str, bytes, int]] = {
    "no key": ("/v1/tasks", b"", 401),
    "too long a body": ("/v1/tasks", KEY, 413),
    "no such path": ("/nowhere", KEY, 404),
    "no JSON": ("/v1/tasks", b"X-API-Key: %b\r\nContent-Type: text/plain\r\n", 415),
    "no Host": ("/v1/tasks", b"Host: another\r\n", 400),
}
LARGE = 50_000_000
PIECE = bytes(65_536)


def pieces(*, chunked: bool) -> Iterator[bytes]:
    for _ in range(LARGE // len(PIECE)):
        yield b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE
    if chunked:
        yield b"0\r\n\r\n"


@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
@pytest.mark.parametrize("case", EARLY)
def test_a_client_that_reads_when_it_has_sent_everything_hears_why_it_was_refused(
    url: str, api_key: str, case: str, chunked: bool
) -> None:
    path, headers, expected = EARLY[case]
    length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % (LARGE // len(PIECE) * len(PIECE))
    head = b"POST %b HTTP/1.1\r\nHost: a\r\n%b%b\r\n\r\n"
    head %= (path.encode(), headers.replace(b"%b", api_key.encode()), length)
    for _ in range(5):
        with connected(url) as connection:
            connection.sendall(head)
            for piece in pieces(chunked=chunked):
                connection.sendall(piece)
            answer = b"".join(iter(lambda: connection.recv(65_536), b""))

        status, said, document = parsed(answer)
        assert (status, said["connection"]) == (expected, "close")
        assert json.loads(document)["status"] == expected


FETCH = """
const [url, times] = process.argv.slice(1);
const piece = Buffer.alloc(65536);
async function* pieces() { for (let i = 0; i < 760; i++) yield piece; }
for (let i = 0; i < times; i++) {
  const answer = await fetch(url, { method: "POST", body: ReadableStream.from(pieces()), duplex: "half" });
  console.log(answer.status, (await answer.json()).code);
}
"""


@pytest.mark.skipif(not shutil.which("node"), reason="needs Node.js")
def test_fetch_hears_why_a_large_body_was_refused(url: str) -> None:
    """Node's client ends a request with an error when the connection is reset while it sends."""
    done = subprocess.run(
        ["node", "--input-type=module", "-e", FETCH, f"{url}/v1/tasks", "20"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    assert (done.stdout.splitlines(), done.stderr) == (["401 unauthorized"] * 20, "")


@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize("chunked", [False, True], ids=["announced", "chunked"])
def test_curl_hears_why_a_large_body_was_refused(url: str, tmp_path: Path, chunked: bool) -> None:
    (tmp_path / "large").write_bytes(bytes(LARGE))
    command = ["curl", "-sS", "--fail-with-body", "-H", "Expect:", "--data-binary", f"@{tmp_path / 'large'}"]
    command += ["-H", "Transfer-Encoding: chunked"] if chunked else []
    for _ in range(5):
        done = subprocess.run([*command, f"{url}/v1/tasks"], capture_output=True, text=True, timeout=60, check=False)

        assert (done.returncode, json.loads(done.stdout)["code"]) == (22, "unauthorized"), done.stderr


def test_a_client_that_never_stops_sending_is_cut_off(url: str) -> None:
    sent = 0
    with connected(url) as connection, pytest.raises(ConnectionError):  # noqa: PT012  whichever of them it is
        connection.sendall(b"POST /v1/tasks HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        while sent < 2 * LINGER_BYTES:
            connection.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE))
            sent += len(PIECE)


def test_a_client_that_stops_sending_does_not_hold_its_connection(url: str) -> None:
    with connected(url) as connection:
        connection.sendall(b"POST /v1/tasks HTTP/1.1\r\nHost: a\r\nContent-Length: 50000000\r\n\r\n" + PIECE)
        assert answer_over(connection) == 401
        assert is_held(connection), "it waits for the rest"

        until(lambda: not is_held(connection), within_s=LINGER_S - 5)  # or it is the end of all lingering


def is_held(connection: socket.socket) -> bool:
    """Whether a process has the other end, by the kernel's list: it has an inode then."""
    own, other = (f"0100007F:{port:04X}" for _, port in (connection.getsockname(), connection.getpeername()))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    return any(row[9] != "0" for row in rows if row[1:3] == [other, own])


def answer_over(connection: socket.socket) -> int:
    """The status of the next answer, which is read to its end."""
    read = connection.makefile("rb")
    status = int(read.readline().split()[1])
    lengths = [line for line in iter(read.readline, b"\r\n") if line.lower().startswith(b"content-length")]
    read.read(int(lengths[0].partition(b":")[2]))
    return status


def until(holds: Callable[[], bool], *, within_s: float) -> None:
    give_up = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < give_up
        time.sleep(0.1)


def test_a_connection_outlives_six_idle_seconds(url: str) -> None:
    """Five were the rule before; a proxy keeps one for 60."""
    request = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"
    with connected(url) as connection:
        for pause_s in (6, 0):
            connection.sendall(request)
            assert answer_over(connection) == 200
            time.sleep(pause_s)


LEFT_OVER = {
    "nothing": b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n",
    "half a body": b"POST /v1/tasks HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n",
}


@pytest.mark.parametrize("case", LEFT_OVER)
def test_a_connection_is_closed_after_the_idle_time_that_is_set_with(own: Settings, case: str) -> None:
    hasty = msgspec.structs.replace(own, api=msgspec.structs.replace(own.api, keep_alive_s=1))
    with ServerProcess(hasty) as server, connected(server.url) as connection:
        connection.sendall(LEFT_OVER[case])
        assert answer_over(connection) in (200, 401)
        if case == "half a body":
            connection.sendall(b"x" * 10)

        assert connection.recv(65_536) == b""
