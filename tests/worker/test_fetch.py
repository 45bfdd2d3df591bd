"""Downloads from real servers on loopback, good ones and hostile ones."""

import asyncio
import gzip
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from penstock import __version__
from penstock.errors import (
    InputDownloadFailed,
    InputNotFound,
    InputTooLarge,
    UnsupportedImageFormat,
    UrlBlocked,
)
from penstock.settings import LimitSettings
from penstock.worker.fetch import Fetcher

IMAGE = b"\x89PNG" + bytes(range(256)) * 1000
KIB = 1024


def limits(**changes: Any) -> LimitSettings:
    """Loopback allowed, little time."""
    return msgspec.structs.replace(
        LimitSettings(allow_networks=("127.0.0.0/8",), fetch_timeout_s=5.0),
        **changes,
    )


# --- the sources ----------------------------------------------------------------------------------------------


class Source:
    """An aiohttp server with every answer of the tests; `requests` are those it has seen."""

    def __init__(self) -> None:
        self.requests: list[web.BaseRequest] = []
        self.bytes_sent = 0
        self.url = ""

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.requests.append(request)
        name, _, rest = request.path.lstrip("/").partition("/")
        answer: Callable[[web.BaseRequest, str], Awaitable[web.StreamResponse]] = getattr(self, name)
        return await answer(request, rest)

    async def image(self, request: web.BaseRequest, rest: str) -> web.Response:
        return web.Response(body=IMAGE, content_type="image/png")

    async def status(self, request: web.BaseRequest, rest: str) -> web.Response:
        return web.Response(status=int(rest), text="internal page: the password is swordfish")

    async def hops(self, request: web.BaseRequest, rest: str) -> web.Response:
        target = f"/hops/{int(rest) - 1}" if int(rest) > 1 else "/image"
        return web.Response(status=302, headers={"Location": target})

    async def to(self, request: web.BaseRequest, rest: str) -> web.Response:
        return web.Response(status=int(rest), headers={"Location": request.query["url"]})

    async def endless(self, request: web.BaseRequest, rest: str) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(bytes(64 * KIB))
            self.bytes_sent += 64 * KIB

    async def bomb(self, request: web.BaseRequest, rest: str) -> web.Response:
        return web.Response(body=gzip.compress(bytes(2**24)), headers={"Content-Encoding": rest})


@pytest.fixture
async def source() -> AsyncIterator[Source]:
    source = Source()
    runner = web.ServerRunner(web.Server(source.answer), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    source.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield source
    await runner.cleanup()


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Listener:
    """A server that says what `talk` says, byte for byte; counts the connections that reach it."""

    def __init__(self, talk: Talk) -> None:
        self.connections = 0
        self.reached = asyncio.Event()
        self.closed_by_client = asyncio.Event()
        self.port = 0
        self._talk = talk

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.reached.set()
        try:
            await self._talk(reader, writer)
        except ConnectionError:
            self.closed_by_client.set()
        finally:
            writer.close()


@asynccontextmanager
async def listening(talk: Talk, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Listener]:
    listener = Listener(talk)
    server = await asyncio.start_server(listener.accept, "127.0.0.1", 0, ssl=tls)
    listener.port = server.sockets[0].getsockname()[1]
    async with server:
        yield listener


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts, and closes."""


async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A byte every 20 ms, for ever."""
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


def saying(text: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(text)
        await writer.drain()

    return talk


async def reset_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc")(reader, writer)
    linger_not = struct.pack("ii", 1, 0)  # so that closing sends RST
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_not)


class LyingResolver(AbstractResolver):
    """Answers 127.0.0.1 to every name: what a rebinding name server does once the check has passed."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host="127.0.0.1", port=port, family=socket.AF_INET, proto=0, flags=0)]

    async def close(self) -> None:
        pass


@pytest.fixture
def own_certificate(tmp_path: Path) -> ssl.SSLContext:
    """TLS for 127.0.0.1 by a certificate that signs itself."""
    openssl = shutil.which("openssl") or pytest.skip("no openssl to make a certificate with")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=127.0.0.1 -addext"
    command = [openssl, *request.split(), "subjectAltName=IP:127.0.0.1", "-keyout", str(key)]
    subprocess.run([*command, "-out", str(certificate)], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


# --- what works -----------------------------------------------------------------------------------------------


async def test_an_image_arrives_whole(source: Source) -> None:
    async with Fetcher(limits()) as fetcher:
        body = await fetcher.fetch(source.url + "/image?signature=a%2Fb%2Bc")

    assert body == IMAGE
    assert source.requests[0].raw_path == "/image?signature=a%2Fb%2Bc"


async def test_the_request_says_who_asks_and_takes_no_encoding(source: Source) -> None:
    async with Fetcher(limits()) as fetcher:
        await fetcher.fetch(source.url + "/image")

    headers = source.requests[0].headers
    assert headers["User-Agent"] == f"penstock/{__version__}"
    assert headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in headers
    assert "Authorization" not in headers


async def test_an_image_of_exactly_the_limit_arrives(source: Source) -> None:
    async with Fetcher(limits(max_input_bytes=len(IMAGE))) as fetcher:
        assert await fetcher.fetch(source.url + "/image") == IMAGE


async def test_many_downloads_run_side_by_side(source: Source) -> None:
    async with Fetcher(limits()) as fetcher:
        bodies = await asyncio.gather(*(fetcher.fetch(source.url + "/image") for _ in range(50)))

    assert bodies == [IMAGE] * 50


# --- redirects ------------------------------------------------------------------------------------------------


async def test_ss5_redirects_are_followed_as_far_as_the_limit(source: Source) -> None:
    async with Fetcher(limits(max_redirects=3)) as fetcher:
        assert await fetcher.fetch(source.url + "/hops/3") == IMAGE


async def test_ss5_one_redirect_too_many_is_blocked(source: Source) -> None:
    async with Fetcher(limits(max_redirects=3)) as fetcher:
        with pytest.raises(UrlBlocked, match="more than 3 times"):
            await fetcher.fetch(source.url + "/hops/4")

    assert len(source.requests) == 4


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data/",
        "http://[::1]:9/",
        "http://localhost/",
        "//10.0.0.1/",
        "file:///etc/passwd",
        "gopher://127.0.0.1/",
        "http://user:secret@127.0.0.1/",
    ],
)
async def test_ss5_a_redirect_to_a_forbidden_place_is_blocked(source: Source, status: int, target: str) -> None:
    async with Fetcher(limits()) as fetcher:
        with pytest.raises(UrlBlocked):
            await fetcher.fetch(f"{source.url}/to/{status}?url={target}")


async def test_a_redirect_into_nothing_is_a_failed_download(source: Source) -> None:
    async with Fetcher(limits()) as fetcher:
        with pytest.raises(InputDownloadFailed, match="answered 304"):
            await fetcher.fetch(source.url + "/status/304")


# --- sizes ----------------------------------------------------------------------------------------------------


async def test_ss9_a_declared_length_over_the_limit_is_refused_unread() -> None:
    async with (
        listening(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000000\r\n\r\n")) as listener,
        Fetcher(limits(max_input_bytes=1000)) as fetcher,
    ):
        with pytest.raises(InputTooLarge, match="more than 1000 bytes"):
            await fetcher.fetch(listener.url)


async def test_ss9_an_endless_body_is_read_no_further_than_the_limit(source: Source) -> None:
    async with Fetcher(limits(max_input_bytes=256 * KIB)) as fetcher:
        with pytest.raises(InputTooLarge):
            await fetcher.fetch(source.url + "/endless")

    assert source.bytes_sent < 32 * KIB * KIB  # what the buffers of the kernel took, not an endless amount


@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "br", "deflate", "zstd", "identity,gzip"])
async def test_ss9_an_encoded_body_is_refused_and_not_unpacked(source: Source, encoding: str) -> None:
    async with Fetcher(limits()) as fetcher:
        with pytest.raises(UnsupportedImageFormat, match="Content-Encoding"):
            await fetcher.fetch(f"{source.url}/bomb/{encoding}")


async def test_the_encoding_identity_is_none(source: Source) -> None:
    async with Fetcher(limits()) as fetcher:
        assert len(await fetcher.fetch(source.url + "/bomb/identity")) > 1000


# --- failures -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 451])
async def test_a_source_without_the_image_is_not_asked_again(source: Source, status: int) -> None:
    async with Fetcher(limits()) as fetcher:
        with pytest.raises(InputNotFound, match=f"answered {status}") as caught:
            await fetcher.fetch(f"{source.url}/status/{status}")

    assert "swordfish" not in str(caught.value)


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503])
async def test_ss11_a_source_in_trouble_is_worth_a_retry_and_its_page_is_not_repeated(
    source: Source, status: int
) -> None:
    async with Fetcher(limits()) as fetcher:
        with pytest.raises(InputDownloadFailed, match=f"answered {status}") as caught:
            await fetcher.fetch(f"{source.url}/status/{status}")

    assert caught.value.retryable
    assert "swordfish" not in str(caught.value)


async def test_ss9_a_slow_drip_is_cut_off_in_time() -> None:
    started = time.monotonic()
    async with listening(drip) as listener, Fetcher(limits(fetch_timeout_s=0.4)) as fetcher:
        with pytest.raises(InputDownloadFailed, match=r"no complete answer within 0\.4 s"):
            await fetcher.fetch(listener.url)

    assert time.monotonic() - started < 2


async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


NO_ANSWERS = {
    "closed": silence,
    "mute": mute,
    "reset": reset_in_the_body,
    "short": saying(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"),
    "chunk-short": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
    "chunk-malformed": saying(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc"),
    "endless-header": saying(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * KIB * KIB + b"\r\n\r\n"),
    "not-http": saying(b"SSH-2.0-OpenSSH_9.2 swordfish\r\n\r\n"),
}


async def failure(url: str) -> str:
    """The text with which a download fails, which is not before its deadline."""
    started = time.monotonic()
    async with Fetcher(limits(fetch_timeout_s=0.3)) as fetcher:
        with pytest.raises(InputDownloadFailed) as caught:
            await fetcher.fetch(url)
    assert time.monotonic() - started >= 0.299
    return caught.value.detail


SAME_FOR_ALL = "there was no complete answer within 0.3 s"


@pytest.mark.parametrize("talk", NO_ANSWERS.values(), ids=NO_ANSWERS)
async def test_ss10_a_port_that_is_open_and_speaks_no_whole_http_is_told_from_no_other(talk: Talk) -> None:
    async with listening(talk) as listener:
        assert await failure(listener.url) == SAME_FOR_ALL


async def test_ss10_a_port_that_speaks_no_tls_is_told_from_no_other(source: Source) -> None:
    assert await failure(source.url.replace("http:", "https:") + "/image") == SAME_FOR_ALL


async def test_ss10_a_closed_port_is_told_from_no_other() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))  # bound and not listening: nobody else can take it meanwhile
        assert await failure(f"http://127.0.0.1:{reserved.getsockname()[1]}/") == SAME_FOR_ALL


async def test_ss10_a_filtered_port_is_told_from_no_other() -> None:
    with ExitStack() as opened, socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):  # with a full backlog the system drops what comes, as a filter does
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        assert await failure(f"http://127.0.0.1:{full.getsockname()[1]}/") == SAME_FOR_ALL


async def test_a_name_that_is_none_does_not_resolve() -> None:
    async with Fetcher(limits()) as fetcher:
        with pytest.raises(InputDownloadFailed, match=r"host no-such-host\.invalid does not resolve"):
            await fetcher.fetch("http://no-such-host.invalid/")


async def test_a_certificate_that_nobody_signed_is_refused(own_certificate: ssl.SSLContext) -> None:
    answered = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
    async with listening(saying(answered), tls=own_certificate) as listener:
        assert await failure(listener.url.replace("http:", "https:")) == SAME_FOR_ALL


async def test_a_cancelled_download_closes_its_connection() -> None:
    async with listening(drip) as listener, Fetcher(limits()) as fetcher:
        download = asyncio.create_task(fetcher.fetch(listener.url))
        await listener.reached.wait()
        download.cancel()

        with pytest.raises(asyncio.CancelledError):
            await download
        async with asyncio.timeout(2):
            await listener.closed_by_client.wait()


# --- the guard at connect time --------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1", "2130706433", "[::ffff:127.0.0.1]", "localhost"])
async def test_ss2_loopback_in_any_spelling_is_blocked_before_any_packet(host: str) -> None:
    async with listening(silence) as listener:
        async with Fetcher(LimitSettings(ports=(listener.port,))) as fetcher:
            with pytest.raises(UrlBlocked):
                await fetcher.fetch(f"http://{host}:{listener.port}/")

        assert listener.connections == 0


async def test_ss4_a_name_server_that_changes_its_mind_cannot_lead_inside() -> None:
    async with listening(silence) as listener:
        async with Fetcher(LimitSettings(ports=(listener.port,)), resolver=LyingResolver()) as fetcher:
            for n in range(100):
                with pytest.raises(UrlBlocked, match="leads to an address that is not public") as caught:
                    await fetcher.fetch(f"http://rebinding-{n}.example.com:{listener.port}/")
                assert "127." not in str(caught.value)

        assert listener.connections == 0


@pytest.mark.parametrize(
    "addresses", [["127.0.0.1"], ["93.184.216.34", "127.0.0.1"], ["::1", "93.184.216.34"], ["fe80::1"]]
)
async def test_ss3_a_name_with_one_private_address_is_blocked_whole(
    addresses: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def look_up(host: str, port: int, **options: Any) -> list[Any]:
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in addresses
        ]

    async with listening(silence) as listener:
        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        async with Fetcher(LimitSettings(ports=(listener.port,))) as fetcher:
            with pytest.raises(UrlBlocked, match="leads to an address that is not public"):
                await fetcher.fetch(f"http://two-faced.example.com:{listener.port}/")

        assert listener.connections == 0


async def test_ss8_proxies_and_netrc_of_the_environment_are_ignored(
    source: Source, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login penstock password swordfish\n")
    monkeypatch.setenv("NETRC", str(netrc))
    async with listening(silence) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)

        async with Fetcher(limits()) as fetcher:
            assert await fetcher.fetch(source.url + "/image") == IMAGE

        assert proxy.connections == 0
    assert "Authorization" not in source.requests[0].headers


AS_ROOT_OF_A_NETWORK = ("unshare", "--user", "--map-root-user", "--net")

ON_A_PUBLIC_ADDRESS = """
import asyncio, subprocess, sys
subprocess.run("ip link set lo up && ip addr add 93.184.216.34/32 dev lo", shell=True, check=True)

from penstock.errors import PenstockError
from penstock.settings import LimitSettings
from penstock.worker.fetch import Fetcher

async def main():
    reached = asyncio.Event()
    server = await asyncio.start_server(lambda r, w: reached.set(), "93.184.216.34", 80)
    async with server, Fetcher(LimitSettings(allow_networks=("10.0.0.0/8",), fetch_timeout_s=3600)) as fetcher:
        try:
            await fetcher.fetch(sys.argv[1])
        except PenstockError as error:
            print(error.code, error.detail, reached.is_set())

asyncio.run(main())
"""


def what_a_public_server_is_told(url: str) -> str:
    """The end of a download on a machine whose only address is a public one, and whether the download reached it."""
    if not shutil.which("ip") or subprocess.run([*AS_ROOT_OF_A_NETWORK, "true"], check=False).returncode:
        pytest.skip("needs a network namespace of its own, and the command ip")
    command = [*AS_ROOT_OF_A_NETWORK, sys.executable, "-c", ON_A_PUBLIC_ADDRESS, url]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


def test_ss13_a_public_address_of_this_machine_is_never_connected_to() -> None:
    said = what_a_public_server_is_told("http://93.184.216.34/v1/tasks")

    assert said == "input_url_blocked the host leads to this server False"


def test_a_public_source_that_cannot_be_reached_fails_at_once_though_private_ones_are_allowed() -> None:
    said = what_a_public_server_is_told("http://93.184.216.35/a.png")

    assert said == "input_download_failed no connection to 93.184.216.35 False"
