"""Files of NumPy, which clients send to models that take tensors."""

import io
import warnings
from typing import Any

import numpy as np

from penstock.errors import InputTooLarge, InvalidRequest
from penstock.models.declared.kinds.packing import npy, npz, unpacked, unpacked_bytes
from tools.fuzz.target import ACCEPTED, refusal

MOST_BYTES = 2048
_NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)


def _compressed(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(out, **arrays)
    return out.getvalue()


FILES = (
    npy(_NUMBERS),
    npy(np.asfortranarray(_NUMBERS)),
    npy(_NUMBERS.astype(">i8")),
    npy(np.array(True)),
    npy(_NUMBERS[:0]),
    npy(np.zeros(MOST_BYTES // 4, np.float32)),
    npz({"a": _NUMBERS, "b/c": _NUMBERS.astype(np.uint8)}),
    _compressed(a=np.zeros(400, np.float32), b=_NUMBERS),
)
WORDS = (
    b"\x93NUMPY\1\0", b"\x93NUMPY\2\0", b"\x93NUMPY\3\0", b"'descr': ", b"'<f4'", b"'|O'", b"'>i8'", b"'<U9'", b"'|V0'",
    b"[('a', '<f4')]", b"'fortran_order': True", b"False", b"'shape': ", b"(3, 4)", b"()", b"(0,)", b"(-1,)",
    b"9" * 20, b"True", b"(" * 40, b"{", b"}", b",", b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"\x08\0", b"\x0c\0",
)  # fmt: skip


def check_of_arrays(data: bytes) -> str:
    """What is unpacked are numbers within the limit, as NumPy reads them, and no more than was foretold."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy tells of headers that Python 2 has written
            found = unpacked(data, "input.file", max_bytes=MOST_BYTES)
    except (InvalidRequest, InputTooLarge) as error:
        assert error.param == "input.file"
        return refusal(error)
    size = sum(array.nbytes for array in found.values())
    assert size <= MOST_BYTES
    assert size <= unpacked_bytes(data, "input.file", max_bytes=MOST_BYTES)
    assert all(array.dtype.kind in "fiub" and array.dtype.isnative for array in found.values())
    again = unpacked(npz(found), "input.file", max_bytes=MOST_BYTES)
    assert {name: _facts(array) for name, array in again.items()} == {
        name: _facts(array) for name, array in found.items()
    }
    return ACCEPTED


def _facts(array: Any) -> tuple[Any, ...]:
    return array.shape, array.dtype, array.tobytes()
