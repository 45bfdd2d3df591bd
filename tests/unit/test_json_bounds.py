"""What JSON of a client may cost is known before it is decoded."""

import random
import string
import tracemalloc
from typing import Any

import msgspec
import pytest

from penstock.errors import MalformedRequest, PayloadTooLarge, PenstockError
from penstock.intake.json_bounds import MAX_DEPTH, MAX_MEMBERS, MAX_QUOTES, MAX_VALUES, is_deeper, structure_of
from penstock.intake.parse import decode
from penstock.intake.requests import BatchRequest, TaskRequest

MEBIBYTE = 1024 * 1024
LONG = b"A" * MEBIBYTE

REFUSED: dict[str, tuple[bytes, type[PenstockError]]] = {
    "too many lists": (b"[" + b"[1]," * MAX_MEMBERS + b"1]", PayloadTooLarge),
    "too many objects": (b"[" + b"{}," * (MAX_MEMBERS + 1) + b"1]", PayloadTooLarge),
    "too many members": (b"{" + b",".join(b'"%x":1' % n for n in range(MAX_MEMBERS + 1)) + b"}", PayloadTooLarge),
    "too many numbers": (b"[" + b"1," * (MAX_VALUES + 1) + b"1]", PayloadTooLarge),
    "too many strings": (b"[" + b'"",' * (MAX_QUOTES // 2 + 1) + b"1]", PayloadTooLarge),
    "too many quotes in a string": (b'["' + b'\\"' * MAX_QUOTES + b'"]', PayloadTooLarge),
    "too many levels": (b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1), MalformedRequest),
    "too many levels of objects": (b'{"a":' * (MAX_DEPTH + 1) + b"1" + b"}" * (MAX_DEPTH + 1), MalformedRequest),
    "a string without an end": (b'{"a":"' + LONG, MalformedRequest),
    "a string that ends with a backslash": (b'{"a":"' + LONG + b'\\"}', MalformedRequest),
    "blanks": (b" " * (2 * MEBIBYTE) + b"{}", PayloadTooLarge),
    "a long string that is no data: URI": (b'{"a":"' + LONG * 2 + b'"}', PayloadTooLarge),
    "a data: URI with an emoji": (b'{"a":"data:,' + LONG * 2 + "😀".encode() + b'"}', PayloadTooLarge),
    "a data: URI that is a name of many": (
        b'{"data:' + LONG + b'":' + b"[" + b"1," * (MAX_VALUES + 1) + b"1]}",
        PayloadTooLarge,
    ),
}
TAKEN = {
    "an image": b'{"model":"m","input":{"image_url":"data:image/png;base64,' + LONG * 8 + b'"}}',
    "two images": b'{"a":"data:;base64,' + LONG * 8 + b'", "b" : "DATA:,' + LONG * 8 + b'"}',
    "quotes and backslashes": b'{"a":"data:,' + b'\\\\\\"[' * 10_000 + b'\\\\"}',
    "brackets in strings": msgspec.json.encode({"a": "[{" * 100_000}),
    "the numbers of a picture": msgspec.json.encode({"a": [[0.5] * 512] * 512}),
    "levels": b"[" * MAX_DEPTH + b"]" * MAX_DEPTH,
}


@pytest.mark.parametrize("case", REFUSED)
def test_json_is_refused_for(case: str) -> None:
    body, error = REFUSED[case]

    with pytest.raises(error):
        structure_of(body, MEBIBYTE)


@pytest.mark.parametrize("case", TAKEN)
def test_json_is_taken_with(case: str) -> None:
    structure = structure_of(TAKEN[case], 2 * MEBIBYTE)

    assert len(structure) <= 2 * MEBIBYTE


@pytest.mark.parametrize("case", sorted(REFUSED.keys() - {"a string without an end"}))
def test_json_is_refused_without_memory_for_what_is_in_it(case: str) -> None:
    body, error = REFUSED[case]
    tracemalloc.start()
    try:
        with pytest.raises(error):
            structure_of(body, MEBIBYTE)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 3 * len(body) + 64 * 1024


def made_up(luck: random.Random, depth: int = 0) -> Any:
    if depth < 5 and luck.random() < 0.6:
        values = [made_up(luck, depth + 1) for _ in range(luck.randrange(5))]
        return values if luck.random() < 0.5 else {text(luck): value for value in values}
    return luck.choice([None, True, 1.5, -3, text(luck), text(luck)])


def text(luck: random.Random) -> str:
    return "".join(luck.choices(string.ascii_letters + '[]{},:"\\\n\t/é😀', k=luck.randrange(20)))


def test_what_is_between_strings_is_what_a_parser_finds_there() -> None:
    luck = random.Random(7)
    for _ in range(500):
        value = [made_up(luck), "x" * 20_000]  # so long that it is looked at
        body = msgspec.json.encode(value)

        structure = structure_of(body)

        assert len(structure) < len(body) - 20_000
        assert structure.count(b"[") == count(value, list)
        assert structure.count(b"{") == count(value, dict)
        assert is_deeper(structure, levels_of(value) - 1)
        assert not is_deeper(structure, levels_of(value))


def count(value: Any, kind: type) -> int:
    inner = list(value.values() if isinstance(value, dict) else value) if isinstance(value, list | dict) else []
    return isinstance(value, kind) + sum(count(one, kind) for one in inner)


def levels_of(value: Any) -> int:
    inner = list(value.values() if isinstance(value, dict) else value) if isinstance(value, list | dict) else []
    return isinstance(value, list | dict) and 1 + max(map(levels_of, inner), default=0)


def test_a_long_body_with_nulls_is_read_as_a_short_one_is() -> None:
    image = "data:image/png;base64," + "A" * 500_000
    members = {"model": "m", "input": {"image_url": image, "x": None}, "priority": None, "params": {"a": [None, 1]}}

    task = decode(msgspec.json.encode(members), TaskRequest)

    assert task == TaskRequest(model="m", input={"image_url": image}, params={"a": [None, 1]})


def test_a_long_batch_with_nulls_is_read_as_a_short_one_is() -> None:
    batch = decode(b'{"metadata":null,"lines":[{"custom_id":"%b","model":null}]}' % LONG, BatchRequest)

    assert [bytes(line) for line in batch.lines or ()] == [b'{"custom_id":"%b"}' % LONG]
