"""Connections of clients that are silent, slow, or too many: what each of them gets, and that others are served."""

import json
import resource
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest

from penstock.settings import ApiSettings, LimitSettings, RedisSettings, Settings, StorageSettings
from tests.support import redis_server
from tests.support.api_server import ServerProcess
from tests.support.drive import body

NAMESPACE = "test-connections"
MOST, MOST_OF_ONE, MOST_OF_TENANT = 24, 12, 14
ATTACKER, OTHER, HEALTHY = "127.0.0.66", "127.0.0.67", "127.0.0.1"
OTHER_KEY = "0123456789abcdef-of-another-tenant"
GET = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.fixture(scope="module")
def settings(redis_url: str, api_key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Settings]:
    """For the server of the module: impatient, with few connections."""
    yield Settings(
        api=ApiSettings(
            keys=(f"tester:{api_key}", f"other:{OTHER_KEY}"),
            linger_s=0, keep_alive_s=1, receive_s=1, receive_bytes_per_s=20_000,
            wrong_keys_per_minute=6, max_connections=MOST, max_requests_per_tenant=MOST_OF_TENANT,
            max_connections_per_address=MOST_OF_ONE, trusted_proxies=("127.0.0.99",),
        ),
        limits=LimitSettings(max_bodies_bytes=2_000_000),
        redis=RedisSettings(url=redis_url, namespace=NAMESPACE),
        storage=StorageSettings(directory=str(tmp_path_factory.mktemp("objects"))),
    )  # fmt: skip
    redis_server.remove_namespace(redis_url, NAMESPACE)


@pytest.fixture(scope="module")
def server(settings: Settings) -> Iterator[ServerProcess]:
    with ServerProcess(settings) as server:
        yield server


@contextmanager
def connected(server: ServerProcess, source: str = HEALTHY) -> Iterator[socket.socket]:
    at = httpx.URL(server.url)
    with socket.create_connection((at.host, at.port or 0), timeout=60, source_address=(source, 0)) as connection:
        yield connection


def to_its_end(connection: socket.socket) -> bytes:
    try:
        return b"".join(iter(lambda: connection.recv(65_536), b""))
    except ConnectionError:
        return b""


def head(path: str, api_key: str, length: int) -> bytes:
    lines = (f"POST {path} HTTP/1.1", "Host: a", f"X-API-Key: {api_key}", "Content-Type: application/json")
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()


def answer_over(connection: socket.socket) -> int:
    """The status of the next answer, which is read to its end."""
    read = connection.makefile("rb", buffering=0)
    status = status_of(read.readline())
    lengths = [line for line in iter(read.readline, b"\r\n") if line.lower().startswith(b"content-length")]
    left = int(lengths[0].partition(b":")[2])
    while left:
        left -= len(read.read(left) or b"")
    return status


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# --- silent ---------------------------------------------------------------------------------------------------


SAID = (b"", b"\r", b"\r\n\r\n", b"G", b"GET /livez HTTP/1.1\r\nHo")


def test_a_connection_that_falls_silent_is_closed_whatever_it_has_sent(server: ServerProcess) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(connected(server)) for _ in SAID]
        for connection, said in zip(held, SAID, strict=True):
            connection.sendall(GET)
            assert answer_over(connection) == 200
            connection.sendall(said)

        rests = [to_its_end(connection) for connection in held]  # the test ends: all are closed

    assert [rest and status_of(rest) for rest in rests] == [b"", b"", b"", 408, 408]


def test_line_breaks_now_and_then_do_not_keep_a_connection_open(server: ServerProcess) -> None:
    with connected(server) as connection, pytest.raises(ConnectionError):  # noqa: PT012  whichever send finds it closed
        connection.sendall(GET)
        answer_over(connection)
        while True:
            connection.sendall(b"\r\n")
            time.sleep(0.2)


# --- slow -----------------------------------------------------------------------------------------------------


def test_a_body_that_never_ends_is_answered_408_at_its_deadline(server: ServerProcess, api_key: str) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(connected(server)) for _ in range(5)]
        for connection in held:
            connection.sendall(head("/v1/tasks", api_key, 1_000_000) + b"{")
        answers = [to_its_end(connection) for connection in held]

    assert {status_of(answer) for answer in answers} == {408}
    assert json.loads(answers[0].partition(b"\r\n\r\n")[2])["code"] == "request_timeout"


def test_a_body_in_drops_is_answered_408_at_its_deadline(server: ServerProcess, api_key: str) -> None:
    with connected(server) as connection:
        connection.sendall(head("/v1/tasks", api_key, 1_000_000))
        with pytest.raises(ConnectionError):  # noqa: PT012  whichever send finds it closed
            while True:
                connection.sendall(b" ")
                time.sleep(0.1)


def test_a_body_that_comes_at_the_lowest_rate_may_take_longer(server: ServerProcess, api_key: str) -> None:
    data = msgspec.json.encode(body())
    with connected(server) as connection:
        connection.sendall(head("/v1/tasks", api_key, len(data) + 160_000))
        for _ in range(16):  # 80 kB/s for 2 s, and without a body the deadline would be after 1 s
            connection.sendall(b" " * 10_000)
            time.sleep(0.125)
        connection.sendall(data)
        answer = connection.recv(65_536)

    assert status_of(answer) == 202


def test_bodies_on_their_way_have_a_bound_together(server: ServerProcess, api_key: str) -> None:
    with ExitStack() as stack:
        opened = [stack.enter_context(connected(server)) for _ in range(3)]
        for connection in opened:
            connection.sendall(head("/v1/tasks", api_key, 900_000) + b" " * 600_000)
        statuses = sorted(status_of(to_its_end(connection)) for connection in opened)

    assert statuses[:1] == [408], "the first one is let in, and has its deadline"
    assert statuses[-1] == 429


def test_the_rest_of_a_body_has_a_deadline_too_when_it_was_answered_early(server: ServerProcess) -> None:
    with connected(server) as connection:
        connection.sendall(head("/v1/tasks", "a-key-that-nobody-has", 1000))
        answer = answer_over(connection)
        connection.sendall(b"x")

        rest = to_its_end(connection)

    assert (answer, rest) == (401, b"")


# --- more than a request ----------------------------------------------------------------------------------------


def memory_of(server: ServerProcess) -> int:
    """The most memory that the process has had."""
    lines = Path(f"/proc/{server.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


def test_requests_behind_one_another_are_answered_in_their_order(server: ServerProcess) -> None:
    with connected(server) as connection:
        connection.sendall((GET + GET.replace(b"livez", b"nowhere")) * 100 + b"\r\n" * 600 + b"end")

        answer = to_its_end(connection)

    statuses = [status_of(b" " + part) for part in answer.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [200, 404] * 100 + [400]


def test_requests_behind_one_another_take_no_memory_before_their_turn(server: ServerProcess) -> None:
    before = memory_of(server)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(connected(server, ATTACKER)).sendall(GET * 8000)  # 22 MB when all are parsed
        httpx.get(f"{server.url}/livez", timeout=60)

    httpx.get(f"{server.url}/livez", timeout=60)
    assert memory_of(server) - before < 40_000_000
    assert "Traceback" not in server.log()  # of clients that leave before their answers


NO_BODY = {
    "headers": b"0\r\n" + b"a:\r\n" * 1000,
    "a header": b"0\r\nA: " + b"a" * 800_000,
    "an extension": b"1;" + b"a" * 800_000,
}


@pytest.mark.parametrize("case", NO_BODY)
def test_what_is_no_body_beside_the_chunks_of_a_body_has_a_bound(
    server: ServerProcess, api_key: str, case: str
) -> None:
    chunked = head("/v1/tasks", api_key, 0).replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    with connected(server) as connection:
        connection.sendall(chunked + b"2\r\n{}\r\n")
        connection.sendall(NO_BODY[case])

        answer = to_its_end(connection)

    assert status_of(answer) == 400
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "malformed_request"


def test_a_request_for_another_protocol_is_answered_in_this_one(server: ServerProcess, api_key: str) -> None:
    data = msgspec.json.encode(body())
    asking = b"\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n"
    with connected(server) as connection:
        connection.sendall(head("/v1/tasks", api_key, len(data)).replace(b"\r\n\r\n", asking) + data[:9])
        connection.sendall(data[9:])
        submitted = answer_over(connection)
        connection.sendall(GET.replace(b"\r\n\r\n", asking) + GET)

        assert (submitted, answer_over(connection), answer_over(connection)) == (202, 200, 200)


# --- too many -------------------------------------------------------------------------------------------------


@contextmanager
def silent(server: ServerProcess, count: int, *sources: str) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        yield [stack.enter_context(connected(server, sources[n % len(sources)])) for n in range(count)]


@pytest.mark.parametrize("sources", [(ATTACKER,), (ATTACKER, OTHER, "127.0.0.68"), (HEALTHY,)], ids=len)
def test_silent_connections_make_room_for_a_client_that_speaks(server: ServerProcess, sources: tuple[str, ...]) -> None:
    with silent(server, 3 * MOST, *sources):
        for _ in range(3):
            assert httpx.get(f"{server.url}/livez").status_code == 200


def test_a_burst_of_connections_keeps_out_nobody_who_comes_behind_it(server: ServerProcess) -> None:
    """All of them wait to be accepted when the loop has its turn."""
    server.process.send_signal(signal.SIGSTOP)
    with silent(server, 3 * MOST_OF_ONE, HEALTHY), connected(server, HEALTHY) as last:
        last.sendall(GET)
        server.process.send_signal(signal.SIGCONT)

        assert answer_over(last) == 200


@contextmanager
def busy(server: ServerProcess, api_key: str, count: int, source: str, *lines: bytes) -> Iterator[list[socket.socket]]:
    """Connections with a request in progress: each looks on at a task that does not end."""
    with httpx.Client(base_url=server.url, headers={"X-API-Key": api_key}) as client:
        path = client.post("/v1/tasks", json=body()).headers["Location"]
    watch = b"\r\n".join(
        [f"GET {path}/events HTTP/1.1".encode(), b"Host: a", b"X-API-Key: %b" % api_key.encode(), *lines]
    )
    with ExitStack() as stack:
        opened = [stack.enter_context(connected(server, source)) for _ in range(count)]
        for connection in opened:
            connection.sendall(watch + b"\r\n\r\n")
            assert status_of(connection.recv(65_536)) == 200
        yield opened


def test_an_address_with_too_many_requests_in_progress_hears_so_and_others_are_served(
    server: ServerProcess, api_key: str
) -> None:
    with busy(server, api_key, MOST_OF_ONE, ATTACKER), connected(server, ATTACKER) as one_more:
        one_more.sendall(GET)
        refused = to_its_end(one_more)
        other = httpx.get(f"{server.url}/livez")

    assert (status_of(refused), other.status_code) == (503, 200)
    assert json.loads(refused.partition(b"\r\n\r\n")[2])["code"] == "not_ready"


def test_rl1_clients_behind_a_trusted_proxy_are_counted_one_by_one(server: ServerProcess, api_key: str) -> None:
    """Through one proxy come more requests than one address may have, and the addresses that a client makes up count
    as nothing."""
    proxy, forwarded = "127.0.0.99", b"X-Forwarded-For: 198.51.100.%d, 192.0.2.1"
    with busy(server, api_key, MOST_OF_ONE, proxy, forwarded % 1), connected(server, proxy) as one_more:
        one_more.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % (forwarded % 2))
        refused = to_its_end(one_more)
        with connected(server, proxy) as of_another:
            of_another.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.2\r\n\r\n")
            answered = of_another.recv(65_536)

    assert (status_of(refused), status_of(answered)) == (429, 200)


def test_rl1_addresses_that_a_client_makes_up_give_it_no_further_connections(
    server: ServerProcess, api_key: str
) -> None:
    with (
        busy(server, api_key, MOST_OF_ONE, ATTACKER, b"X-Forwarded-For: 192.0.2.3"),
        connected(server, ATTACKER) as one_more,
    ):
        one_more.sendall(b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 192.0.2.4\r\n\r\n")

        assert status_of(to_its_end(one_more)) == 503


def test_rl1_a_tenant_with_too_many_requests_in_progress_hears_so_and_others_are_served(
    server: ServerProcess, api_key: str
) -> None:
    """The event streams of one key come from two addresses, none of which is full. The bytes of an upload come without
    the key, and count for its tenant all the same."""
    asked = {"size": 1, "content_type": "image/png"}
    upload = httpx.post(f"{server.url}/v1/uploads", json=asked, headers={"X-API-Key": api_key}).json()
    with ExitStack() as stack:
        stack.enter_context(busy(server, api_key, MOST_OF_TENANT - 4, ATTACKER))
        stack.enter_context(busy(server, api_key, 4, OTHER))
        refused = asked_with(server, api_key, HEALTHY)
        unsent = httpx.put(upload["url"], content=b"x", headers=upload["headers"])
        without_scope = asked_with(server, api_key, HEALTHY, path="/v1/keys")
        others = [asked_with(server, OTHER_KEY, source) for source in (ATTACKER, HEALTHY)]
    again = asked_until_let_in(server, api_key)
    sent = httpx.put(upload["url"], content=b"x", headers=upload["headers"])

    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    assert "this tenant" in refused.json()["detail"]
    assert int(refused.headers["Retry-After"]) >= 1
    assert (unsent.status_code, sent.status_code, without_scope.status_code) == (429, 200, 429)
    assert [answer.status_code for answer in others] == [200, 200]
    assert again.status_code == 200


def asked_until_let_in(server: ServerProcess, key: str) -> httpx.Response:
    """The server hears a little later that a client has hung up."""
    give_up = time.monotonic() + 60
    while (answer := asked_with(server, key, HEALTHY)).status_code == 429 and time.monotonic() < give_up:
        time.sleep(0.02)
    return answer


# --- wrong keys -----------------------------------------------------------------------------------------------


def asked_with(server: ServerProcess, key: str, source: str, path: str = "/v1/tasks", **headers: str) -> httpx.Response:
    transport = httpx.HTTPTransport(local_address=source)
    with httpx.Client(base_url=server.url, headers={"X-API-Key": key} | headers, transport=transport) as client:
        return client.get(path)


def test_rl2_wrong_keys_are_slowed_by_address_whatever_the_client_says_of_its_own(
    server: ServerProcess, api_key: str
) -> None:
    right = asked_with(server, api_key, "127.0.0.70")
    wrong = [asked_with(server, f"no-key-{n}", "127.0.0.70", **{"X-Forwarded-For": f"192.0.2.{n}"}) for n in range(8)]
    known, other = asked_with(server, api_key, "127.0.0.70"), asked_with(server, "no-key-9", "127.0.0.71")

    assert [answer.status_code for answer in wrong] == [401] * 6 + [429] * 2
    assert (wrong[7].json()["code"], wrong[7].json()["retryable"]) == ("rate_limited", True)
    assert int(wrong[7].headers["Retry-After"]) >= 1
    assert [answer.status_code for answer in (right, known, other)] == [200, 200, 401]


# --- out of files ---------------------------------------------------------------------------------------------


def test_a_server_without_files_for_connections_says_so_and_goes_on(settings: Settings) -> None:
    with ServerProcess(settings) as server:
        used = len(list(fds_of(server.process.pid)))
        _, most = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (used + 4, most))
        with silent(server, 8, ATTACKER):
            answers = [httpx.get(f"{server.url}/livez", timeout=30).status_code for _ in range(3)]
        log = server.log()

    assert answers == [200] * 3
    failures = [json.loads(line) for line in log.splitlines() if "cannot be accepted" in line]
    assert failures
    assert (failures[0]["level"], failures[0]["error"]) == ("ERROR", "EMFILE")


def fds_of(pid: int) -> Iterator[str]:
    return (file.name for file in Path(f"/proc/{pid}/fd").iterdir())
