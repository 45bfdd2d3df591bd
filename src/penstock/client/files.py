"""Files that are too big for a JSON request: read once for their digest and once to be sent, in pieces."""

import asyncio
import errno
import hashlib
import io
import mimetypes
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import IO

from msgspec import Struct

CHUNK_BYTES = 256 * 1024

DIRECT_BYTES = 512 * 1024
"""A file up to this size is sent inside its submit: in base64 it stays below 1 MB, which any proxy accepts."""


class File(Struct, frozen=True, kw_only=True):
    """The bytes or the path of a source, with the size and digest that an upload announces."""

    source: bytes | Path
    size: int
    sha256: str
    content_type: str

    @classmethod
    def of(cls, source: bytes | str | Path) -> "File":
        """Reads the source once for size and digest. Raises OSError if it cannot be read."""
        place = source if isinstance(source, bytes) else Path(source)
        with _opened(place) as file:
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
            size = file.seek(0, io.SEEK_END)
        name = place.name if isinstance(place, Path) else ""
        content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return cls(source=place, size=size, sha256=digest.hexdigest(), content_type=content_type)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """Yields the announced number of bytes. Raises OSError if the file has become shorter."""
        left = self.size
        with await asyncio.to_thread(_opened, self.source) as file:
            while left:
                piece = await asyncio.to_thread(file.read, min(left, CHUNK_BYTES))
                if not piece:
                    raise OSError(errno.EIO, "it became shorter while it was sent", str(self.source))
                left -= len(piece)
                yield piece


def is_large(source: bytes | str | Path) -> bool:
    """Whether the source is uploaded before its submit. Raises OSError if it cannot be read."""
    size = len(source) if isinstance(source, bytes) else Path(source).stat().st_size
    return size > DIRECT_BYTES


def _opened(source: bytes | Path) -> IO[bytes]:
    return io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
