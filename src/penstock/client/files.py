"""Files of any size. One that is too big for a JSON request is read once for its digest and once to be sent, in pieces;
one that is received is never half there."""

import asyncio
import errno
import hashlib
import io
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO

from msgspec import Struct

from penstock.client.media_types import media_type_of

CHUNK_BYTES = 256 * 1024

DIRECT_BYTES = 512 * 1024
"""Files up to this size, together, are sent inside their submit: in base64 they stay below 1 MB, which any proxy
accepts."""

Contents = bytes | Path | IO[bytes]
"""Bytes, the path of a file, or an open file, which is read from where it stands and left there."""


class File(Struct, frozen=True, kw_only=True):
    """The contents of a file, with the size and digest that an upload announces."""

    source: Contents
    size: int
    sha256: str
    content_type: str
    name: str

    @classmethod
    def of(cls, source: str | Contents) -> "File":
        """Reads the source once for size and digest. Raises OSError if it cannot be read, or is open and cannot go back
        to where it stands."""
        contents = Path(source) if isinstance(source, str) else source
        with _opened(contents) as file:
            digest, size = hashlib.sha256(), 0
            while piece := file.read(CHUNK_BYTES):
                digest.update(piece)
                size += len(piece)
        name = name_of(contents)
        content_type = media_type_of(name) or "application/octet-stream"
        return cls(source=contents, size=size, sha256=digest.hexdigest(), content_type=content_type, name=name)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yields the announced number of bytes. Raises OSError if the file has become shorter."""
        left = self.size
        with ExitStack() as stack:
            file = await asyncio.to_thread(stack.enter_context, _opened(self.source))
            while left:
                piece = await asyncio.to_thread(file.read, min(left, CHUNK_BYTES))
                if not piece:
                    raise OSError(errno.EIO, "it became shorter while it was sent", str(self.source))
                left -= len(piece)
                yield piece


@asynccontextmanager
async def new_file(path: str | Path) -> AsyncIterator[tuple[IO[bytes], Path]]:
    """Yields a file to write, which appears under the path when the block ends without an error, and replaces an
    existing one. Raises OSError, with the path as its `filename`, if it cannot be written."""
    target = Path(path)
    part = target.with_name(f".penstock-{secrets.token_hex(8)}.part")  # a name has 255 bytes, which are the target's
    try:
        file = await asyncio.to_thread(part.open, "wb")
        try:
            try:
                yield file, target
            finally:
                await asyncio.to_thread(file.close)
            await asyncio.to_thread(part.replace, target)
        finally:
            await asyncio.to_thread(part.unlink, missing_ok=True)
    except OSError as error:
        error.filename, error.filename2 = str(target), None
        raise


def place_in(directory: str | Path, prefix: str, name: str) -> Path:
    """Returns the path of a received file in a directory. Raises OSError for a name that would lead elsewhere."""
    if not name or name in (".", "..") or any(sign in name for sign in "/\\\0"):
        raise OSError(errno.EINVAL, "a file of the result has a name that no file can have", name)
    return Path(directory) / f"{prefix}{name}"


def size_of(contents: Contents) -> int:
    """Returns the number of bytes. Raises OSError if they cannot be read."""
    if isinstance(contents, bytes):
        return len(contents)
    if isinstance(contents, Path):
        return contents.stat().st_size
    with _opened(contents) as file:
        return -file.tell() + file.seek(0, io.SEEK_END)


def read_all(contents: Contents) -> bytes:
    """Returns the bytes. Raises OSError if they cannot be read."""
    with _opened(contents) as file:
        return file.read()


def name_of(contents: Contents) -> str:
    """Returns the name of the file without its folder, else an empty text."""
    name = "" if isinstance(contents, bytes) else getattr(contents, "name", "")
    return Path(name).name if isinstance(name, str) else ""  # the name of an open pipe is a number


@contextmanager
def _opened(contents: Contents) -> Iterator[IO[bytes]]:
    if isinstance(contents, io.TextIOBase):
        raise TypeError("the file is open as text; open it in binary mode, 'rb'")
    if isinstance(contents, bytes):
        yield io.BytesIO(contents)
    elif isinstance(contents, Path):
        if contents.is_fifo():  # opening it would wait for whoever writes, and it can be read only once
            raise OSError(errno.ESPIPE, "a pipe is no file", str(contents))
        with contents.open("rb") as file:
            yield file
    else:
        start = contents.tell()
        try:
            yield contents
        finally:
            contents.seek(start)
