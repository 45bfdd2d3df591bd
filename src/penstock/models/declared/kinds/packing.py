"""Arrays as files of NumPy, in and out. What comes in is not trusted: no object is ever made of it, and its size is
bounded before memory is taken."""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any

from penstock.errors import InputTooLarge, InvalidRequest
from penstock.lazy_import import lazy_import

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
else:
    np = lazy_import("numpy")

NPY, NPZ = "application/x-npy", "application/x-npz"

HEADER_BYTES = 10_000
"""The longest header of an array that is read; NumPy's own bound for files that are not trusted."""

MEMBERS = 256
"""The most arrays of one `.npz`."""

ENTRY = b"PK\x01\x02"
"""How each entry in the directory of an archive begins."""

BOUNDED = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""The methods that NumPy writes. Of others, `zipfile` unpacks as much as comes, however little is asked for."""


def npy(array: NDArray[Any]) -> bytes:
    """A `.npy` file."""
    out = io.BytesIO()
    np.lib.format.write_array(out, array, allow_pickle=False)
    return out.getvalue()


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """A `.npz` file, the same for the same arrays: not compressed, and without the time of day."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), npy(array))
    return out.getvalue()


def unpacked(content: bytes, param: str, *, max_bytes: int) -> dict[str, NDArray[Any]]:
    """The arrays of a `.npz` file by name, or that of a `.npy` file under an empty name. `param` is the member of the
    request that they came in.

    Raises InvalidRequest for anything else, InputTooLarge where they take more than `max_bytes`.
    """
    with _refusals(param):
        if content.startswith(b"PK"):
            return _from_archive(content, param, max_bytes)
        return {"": _array(io.BytesIO(content), len(content), max_bytes)}


def unpacked_bytes(content: bytes, param: str, *, max_bytes: int) -> int:
    """How many bytes `unpacked` makes of a file at most, as the file says. Raises what that raises."""
    with _refusals(param):
        if not content.startswith(b"PK"):
            return len(content)
        with _archive(content, param) as archive:
            return min(max_bytes, sum(member.file_size for member in archive.infolist()))


@contextmanager
def _refusals(param: str) -> Iterator[None]:
    try:
        yield
    except InputTooLarge as error:
        raise InputTooLarge(error.detail, param=param) from error
    except InvalidRequest:
        raise
    except Exception as error:  # readers of hostile bytes throw anything
        raise InvalidRequest(f"{param} is no .npy or .npz file with arrays of numbers", param=param) from error


def _archive(content: bytes, param: str) -> zipfile.ZipFile:
    if content.count(ENTRY) > MEMBERS:  # an archive that is opened reads its whole directory
        raise InvalidRequest(f"the file has more than {MEMBERS} arrays", param=param)
    return zipfile.ZipFile(io.BytesIO(content))


def _from_archive(content: bytes, param: str, max_bytes: int) -> dict[str, NDArray[Any]]:
    found: dict[str, NDArray[Any]] = {}
    left = max_bytes
    with _archive(content, param) as archive:
        for member in archive.infolist():
            if member.compress_type not in BOUNDED:
                raise InvalidRequest(f"{param} is compressed in another way than NumPy does", param=param)
            if member.file_size > left + HEADER_BYTES:  # a reader of the archive gives no more than that
                raise _too_large(max_bytes)
            with archive.open(member) as file:
                array = _array(file, member.file_size, left)
            found[member.filename.removesuffix(".npy")] = array
            left -= array.nbytes
    return found


def _array(file: IO[bytes], file_bytes: int, max_bytes: int) -> NDArray[Any]:
    shape, columns_first, dtype = _header(file)
    size = math.prod(shape) * dtype.itemsize
    if size > max_bytes:
        raise _too_large(max_bytes)
    if dtype.kind not in "fiub" or size > file_bytes:
        raise ValueError("no array of numbers")
    content = file.read(size)
    if len(content) != size:
        raise ValueError("the array is cut off")
    flat = np.frombuffer(content, dtype.newbyteorder("="))
    values = flat.byteswap() if not dtype.isnative else flat
    return values.reshape(shape, order="F" if columns_first else "C")


def _too_large(max_bytes: int) -> InputTooLarge:
    return InputTooLarge(f"the arrays take more than {max_bytes} bytes")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file, max_header_size=HEADER_BYTES)
    if version == (2, 0):
        return np.lib.format.read_array_header_2_0(file, max_header_size=HEADER_BYTES)
    raise ValueError("no version of the format that is read")
