"""Arrays in files of NumPy that nobody vouches for: they are read as numbers, or refused before memory is taken."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from penstock.errors import InputTooLarge, InvalidRequest, PenstockError
from penstock.models.declared.kinds.packing import MEMBERS, npy, npz, unpacked

UNHURRIED = settings(max_examples=50)
"""A machine may be busy."""

LIMIT = 1_000_000

ARRAYS = st_numpy.arrays(
    st.sampled_from([np.dtype(kind) for kind in ("<f4", ">f8", "<f2", "<i8", ">i4", "u1", "?")]),
    st_numpy.array_shapes(min_dims=0, max_dims=4, max_side=5),
)


@UNHURRIED
@given(ARRAYS)
def test_an_array_comes_back(array: np.ndarray) -> None:
    found = unpacked(npy(array), "input.file", max_bytes=LIMIT)

    assert list(found) == [""]
    assert found[""].shape == array.shape
    assert np.array_equal(found[""], array, equal_nan=array.dtype.kind == "f")


@UNHURRIED
@given(st.dictionaries(st.text("abc.:/", min_size=1, max_size=5), ARRAYS, max_size=4))
def test_arrays_come_back_by_name(arrays: dict[str, np.ndarray]) -> None:
    found = unpacked(npz(arrays), "input.file", max_bytes=LIMIT)

    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert np.array_equal(found[name], array, equal_nan=array.dtype.kind == "f")


def test_columns_may_come_first() -> None:
    array = np.asfortranarray(np.arange(6).reshape(2, 3))

    assert unpacked(npy(array), "input.file", max_bytes=LIMIT)[""].tolist() == array.tolist()


def header(described: str, version: tuple[int, int] = (1, 0)) -> bytes:
    """The beginning of a `.npy` file that says this of itself."""
    length = struct.pack("<H" if version == (1, 0) else "<I", len(described))
    return b"\x93NUMPY" + bytes(version) + length + described.encode()


def archive(members: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


class Bad:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("an object was made of an input",))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x93NUMPY",
        b"PK\x03\x04",
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n") + pickle.dumps(Bad()),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (4,)}\n") + bytes(8),
        header("{'descr': '<U4', 'fortran_order': False, 'shape': (1,)}\n") + bytes(16),
        header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,)}\n") + bytes(4),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4,)}\n") + bytes(16),
        header("__import__('os')") + bytes(16),
        header("{" * 5000),
        header("{'descr': '<f4'", (3, 0)),
        archive({"a.npy": pickle.dumps(Bad())}),
        archive({f"{n}.npy": npy(np.zeros(1)) for n in range(MEMBERS + 1)}),
    ],
)
def test_what_is_no_array_of_numbers_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        unpacked(content, "input.file", max_bytes=LIMIT)

    assert refused.value.param == "input.file"


HUGE = header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000, 1000, 1000)}\n")
LONG_HEADER = b"\x93NUMPY\x02\x00" + struct.pack("<I", 2**31)


def zeros() -> bytes:
    """Five million."""
    return npy(np.zeros(5_000_000))


def assert_refused_in_little_memory(content: bytes, error: type[Exception]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(error):
            unpacked(content, "input.file", max_bytes=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 4 * LIMIT
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "content",
    [
        lambda: HUGE,
        lambda: archive({"a.npy": HUGE}),
        lambda: archive({"a.npy": zeros()}, zipfile.ZIP_DEFLATED),
        lambda: archive({f"{n}.npy": npy(np.zeros(60_000)) for n in range(3)}, zipfile.ZIP_DEFLATED),
        lambda: archive({"a.npy": LONG_HEADER + bytes(50_000_000)}, zipfile.ZIP_DEFLATED),
    ],
    ids=["shape", "shape in an archive", "bomb", "together", "header"],
)
def test_what_would_take_too_much_memory_is_refused_before_it_does(content: Callable[[], bytes]) -> None:
    assert_refused_in_little_memory(content(), InputTooLarge)


def with_size_said(content: bytes, said: int) -> bytes:
    """The archive of one member whose directory says this of its size."""
    entry = bytearray(content)
    struct.pack_into("<I", entry, content.rindex(b"PK\x01\x02") + 24, said)
    return bytes(entry)


@pytest.mark.parametrize(
    "content",
    [
        lambda: with_size_said(archive({"a.npy": zeros()}, zipfile.ZIP_BZIP2), 800_128),
        lambda: with_size_said(archive({"a.npy": zeros()}, zipfile.ZIP_LZMA), 800_128),
        lambda: archive(dict.fromkeys(map(str, range(20_000)), b"")),
    ],
    ids=["bzip2", "lzma", "directory"],
)
def test_an_archive_that_takes_much_to_be_read_is_not_read(content: Callable[[], bytes]) -> None:
    assert_refused_in_little_memory(content(), InvalidRequest)


@UNHURRIED
@given(st.integers(0, 400), st.integers(0, 255))
def test_a_damaged_file_is_refused_or_still_holds_numbers(place: int, value: int) -> None:
    content = bytearray(npz({"a": np.arange(6.0), "b": np.arange(4)}))
    content[place % len(content)] = value

    try:
        found = unpacked(bytes(content), "input.file", max_bytes=LIMIT)
    except PenstockError:
        return
    assert all(array.dtype.kind in "fiub" for array in found.values())
