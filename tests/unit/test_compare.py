"""The parts of `python -m tools.compare` that need none of the other servers."""

import asyncio
import base64
from collections.abc import Sequence
from pathlib import Path

import pytest

from penstock.core.request import OutputOptions
from penstock.models.base import Params
from penstock.settings import LimitSettings
from penstock.worker.devices import cpu
from tools.compare import tables
from tools.compare.__main__ import ROWS
from tools.compare.client import Client
from tools.compare.connection import CompareError, HttpConnection, encoded
from tools.compare.measures import STEPS
from tools.compare.own_model import OwnClassifier
from tools.compare.peers.work import Classifier
from tools.compare.photos import written
from tools.compare.servers import Server
from tools.compare.tables import BARS, COLUMNS, LITSERVE, LOOP, SAQ, Medians


async def answered(pieces: Sequence[bytes]) -> bytes:
    """The body that a client reads when a server writes these pieces to each of two requests."""
    gone = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(1000):
            for piece in pieces:
                writer.write(piece)
                await asyncio.sleep(0)
        writer.close()
        gone.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        connection = HttpConnection("peer", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        request = encoded("GET", "/", {})
        try:
            first, second = await connection.send(request), await connection.send(request)
        finally:
            connection.close()
            await gone.wait()
    assert first == second
    return first


async def test_an_answer_is_whole_when_its_length_has_come() -> None:
    head = b"HTTP/1.1 202 Accepted\r\nserver: x\r\nContent-Length: 4\r\n\r\n"

    assert await answered([head + b"body"]) == b"body"
    assert await answered([head[:30], head[30:] + b"bo", b"dy"]) == b"body"


@pytest.mark.parametrize("head", ["500 No\r\ncontent-length: 4\r\n\r\nbody", "200 OK\r\nx: y\r\n\r\n"])
async def test_an_answer_that_is_an_error_or_has_no_length_ends_the_comparison(head: str) -> None:
    with pytest.raises(CompareError, match="peer answers"):
        await answered([b"HTTP/1.1 " + head.encode()])


async def test_a_request_that_is_answered_with_503_is_sent_again() -> None:
    answers = iter(["503 Busy", "202 Accepted", "200 OK"])

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await reader.read(1000)
            body = b'{"task_id":"1","status":"%s","result":1}' % (b"SUCCESS" if "OK" in answer else b"PENDING")
            writer.write(f"HTTP/1.1 {answer}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        client = Client(Server("peer", [b"{}"], f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"), waits=False)

        assert await client.first_result() == 1
        assert client.repeated == 1


def test_penstock_and_the_others_give_the_same_answer_for_a_photo(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, network = written(tmp_path)
    monkeypatch.setenv("PEER_NETWORK", str(network))
    source = photos[0].read_bytes()
    runner = OwnClassifier(LimitSettings())
    runner.load_model(cpu())

    work = runner.prepare(source, Params())
    work.accept(0, runner.infer(work.tile(0)[None], work)[0])
    ours = runner.postprocess(work, Params(), OutputOptions()).data

    assert ours == Classifier(str(network))({"image": base64.b64encode(source).decode()})
    assert len(source) == pytest.approx(68_000, rel=0.02)
    assert len({photo.read_bytes() for photo in photos}) == len(photos)


def test_every_row_is_measured_under_load_and_alone() -> None:
    assert {row.way for row in ROWS} == STEPS[1].keys()
    assert STEPS[1].keys() - STEPS[2].keys() == {"batch"}


def test_tables_fit_into_100_columns_and_have_the_ratios() -> None:
    times = [f"{name}_p{percentile}" for name in ("alone", "crowd") for percentile in (50, 99)]
    measured = dict.fromkeys(("submits_per_s", "tasks_per_s"), 1111.0) | dict.fromkeys(times, 888.8)
    measured |= {"cpu_ms": 88.8, "pss_mb": 100.0, "start_s": 1.0}
    figures = {row.label: {key: [value, value / 2, value * 2] for key, value in measured.items()} for row in ROWS}
    figures[SAQ]["cpu_ms"], figures[LITSERVE]["alone_p50"] = [2 * 88.8], [2 * 888.8]
    figures[LOOP]["tasks_per_s"] = [2222.0]
    found = {"noop": Medians(figures), "photo": Medians(figures)}

    drawn = [tables.of_load(name, f"{name}, 16 clients", found[name]) for name in COLUMNS] + [tables.of_bars(found)]

    assert max(len(line) for table in drawn for line in table.splitlines()) <= 100
    assert drawn[2].count("0.50") == 6
    assert len(drawn[2].splitlines()) == 2 + len(BARS)
    assert "NaN" not in "".join(drawn)


def test_what_was_not_measured_is_left_out_of_the_ratios() -> None:
    assert len(tables.of_bars({"noop": Medians({"Penstock": {"pss_mb": [99.0]}})}).splitlines()) == 3
